#!/usr/bin/env bash
# The package is what it says: made of the binary the tests built, taken apart, and run from there.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
command -v dpkg-deb > /dev/null || { echo "skipped: no dpkg-deb, so this is no Debian"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Without symbols and packed lightly: what is looked at is the same.
strip --strip-unneeded -o "$work/binary" "$root/target/debug/webtrunk"
export PACKED_LIGHTLY=1
KEEP_SYMBOLS=1 "$root/interop/package/deb.sh" "$work/binary" "$work" > /dev/null
dpkg-deb --field "$work"/webtrunk_*.deb Package Version Architecture Depends
dpkg-deb -x "$work"/webtrunk_*.deb "$work/root"
for file in usr/bin/webtrunk usr/lib/systemd/system/webtrunk.service usr/share/man/man1/webtrunk.1.gz usr/share/doc/webtrunk/copyright \
  usr/share/bash-completion/completions/webtrunk etc/webtrunk/webtrunk.toml etc/webtrunk/dialplans/default.toml; do
  [ -s "$work/root/$file" ] || { echo "$file is missing" >&2; exit 1; }
done
gzip -t "$work/root/usr/share/man/man1/webtrunk.1.gz"
bash -n "$work/root/usr/share/bash-completion/completions/webtrunk"
# Others may look into the folders it is made of, it has both licences at the user's choice, and the manual names no page that is not there.
dpkg-deb --contents "$work"/webtrunk_*.deb > "$work/contents"
if grep '^d' "$work/contents" | grep -qv '^drwxr-xr-x root/root'; then grep '^d' "$work/contents" >&2; exit 1; fi
for licence in "Permission is hereby granted" "common-licenses/Apache-2.0"; do
  grep -q "$licence" "$work/root/usr/share/doc/webtrunk/copyright" || { echo "no $licence" >&2; exit 1; }
done
pages=$work/root/usr/share/man/man1
zcat "$pages"/*.gz | tr -d '\\' | grep -oE 'webtrunk[a-z-]*\(1\)' | sort -u > "$work/named"
[ "$(wc -l < "$work/named")" -gt 30 ] || { echo "the manual names hardly a page" >&2; exit 1; }
while read -r page; do
  [ -s "$pages/${page%(1)}.1.gz" ] || { echo "the manual names $page, which is not there" >&2; exit 1; }
done < "$work/named"

# `make install`, but for the build: what is on the PATH afterwards, and what is said where one may not write.
said=$(PATH=$work/prefix/bin:$PATH make -s -C "$root" install-built BUILT="$work/binary" PREFIX="$work/prefix")
[ -z "$said" ] || { echo "make install-built said: $said" >&2; exit 1; }
[ "$(PATH=$work/prefix/bin:$PATH command -v webtrunk)" = "$work/prefix/bin/webtrunk" ]
for file in man/man1/webtrunk-init.1 bash-completion/completions/webtrunk zsh/site-functions/_webtrunk; do
  [ -s "$work/prefix/share/$file" ] || { echo "make install has no $file" >&2; exit 1; }
done
make -s -C "$root" install-built BUILT="$work/binary" PREFIX="$work/elsewhere" | grep -qx "add $work/elsewhere/bin to PATH"
mkdir "$work/read-only"
if unshare --mount --map-root-user sh -c 'mount -t tmpfs -o ro none "$1" && make -s -C "$2" install PREFIX="$1/here"' \
  sh "$work/read-only" "$root" > "$work/refused" 2>&1; then exit 1; fi
grep -q "sudo make install-built" "$work/refused" || { cat "$work/refused" >&2; exit 1; }

# With the folder that postinst makes, in a mount namespace, so that nothing is left on this machine.
unshare --mount --map-root-user sh -c '
  mount -t tmpfs none /var/lib && mkdir /var/lib/webtrunk && exec "$0" check-config -c "$1"' \
  "$work/root/usr/bin/webtrunk" "$work/root/etc/webtrunk/webtrunk.toml"
sh -n <(dpkg-deb --ctrl-tarfile "$work"/webtrunk_*.deb | tar -xO ./postinst)

# A release of this binary: archive, .deb, .rpm, image, chart, formula, and what they say of each other.
if command -v rpmbuild > /dev/null && command -v umoci > /dev/null; then
  DIST_BINARY=$work/binary DIST_OUT=$work/dist "$root/interop/package/dist.sh" > /dev/null
  rpm -qpl "$work"/dist/webtrunk-*.rpm 2> /dev/null | sort > "$work/rpm"
  for file in /usr/bin/webtrunk /usr/lib/systemd/system/webtrunk.service /etc/webtrunk/webtrunk.toml /usr/share/zsh/site-functions/_webtrunk \
    /usr/share/licenses/webtrunk/LICENSE-APACHE; do
    grep -qx "$file" "$work/rpm" || { echo "the .rpm has no $file" >&2; exit 1; }
  done
  rpm -qp --scripts "$work"/dist/webtrunk-*.rpm 2> /dev/null | sed '/scriptlet/d' | sh -n
  # The schemas of Kubernetes, as a package.
  schemas=$root/target/kubernetes
  if ! "$schemas/bin/python" -c 'import importlib.metadata as m; assert m.version("kubernetes-validate") == "1.37.0"' 2> /dev/null; then
    python3 -m venv "$schemas"
    "$schemas/bin/pip" install -q --disable-pip-version-check kubernetes-validate==1.37.0
  fi
  python3 "$root/interop/package/channels.py" "$root/target/debug/webtrunk" "$work/dist" "$schemas/bin/python"
else
  echo "skipped: no rpmbuild or no umoci, which interop/setup.sh test installs"
fi

# Installed by dpkg into a clean root, where it serves and a call goes through it.
clean=${WEBTRUNK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/webtrunk}/package-root
if [ ! -d "$clean" ]; then
  command -v debootstrap > /dev/null || { echo "skipped: no debootstrap for a clean root"; exit 0; }
  # In its place once it is whole: one that was begun and interrupted is none.
  rm -rf "$clean.new"
  mkdir -p "$clean.new"
  . /etc/os-release
  debootstrap --variant=minbase --include=adduser,libopus0 "$VERSION_CODENAME" "$clean.new" \
    "$(apt-get indextargets --format '$(REPO_URI)' | head -n 1)" > "$work/debootstrap.log" 2>&1 ||
    { tail -n 5 "$work/debootstrap.log" >&2; rm -rf "$clean.new"; exit 1; }
  mv "$clean.new" "$clean"
fi
cp "$work"/webtrunk_*.deb "$work/webtrunk.deb"
# On a copy in memory, in namespaces of its own, so that the next time is as clean as the first.
unshare --mount --net --pid --fork --kill-child --mount-proc sh -euc '
  ip link set lo up
  mkdir "$1/up" "$1/aside" "$1/installed"
  mount -t tmpfs none "$1/up"
  mkdir "$1/up/new" "$1/up/work"
  mount -t overlay overlay -o "lowerdir=$2,upperdir=$1/up/new,workdir=$1/up/work" "$1/installed"
  mount --rbind /dev "$1/installed/dev"
  mount -t proc proc "$1/installed/proc"
  cp "$1/webtrunk.deb" "$1/installed/tmp/"
  exec chroot "$1/installed" sh -euc "
    dpkg --install /tmp/webtrunk.deb
    printf \"\n[user.alice]\npassword = \\\"alice-secret\\\"\n[api]\ncontrol = \\\"/run/webtrunk.sock\\\"\n\" >> /etc/webtrunk/webtrunk.toml
    webtrunk check-config -c /etc/webtrunk/webtrunk.toml
    webtrunk serve -c /etc/webtrunk/webtrunk.toml --log text 2> /var/log/webtrunk.log &
    for n in \$(seq 100); do webtrunk readyz --control /run/webtrunk.sock > /dev/null 2>&1 && break; sleep 0.1; done
    webtrunk call 9196 --as alice --password alice-secret --for 3s --min-mos 3.5 --control /run/webtrunk.sock || { cat /var/log/webtrunk.log; exit 1; }
    webtrunk drain --timeout 5s --control /run/webtrunk.sock > /dev/null
  "' sh "$work" "$clean"
echo "the package is sound, and a call went through it"
