#!/usr/bin/env bash
# The package is what it says: made of the binary the tests built, taken apart, and run from there.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
command -v dpkg-deb > /dev/null || { echo "skipped: no dpkg-deb, so this is no Debian"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
KEEP_SYMBOLS=1 "$root/interop/package/deb.sh" "$root/target/debug/webtrunk" "$work" > /dev/null
dpkg-deb --field "$work"/webtrunk_*.deb Package Version Architecture Depends
dpkg-deb -x "$work"/webtrunk_*.deb "$work/root"
for file in usr/bin/webtrunk usr/lib/systemd/system/webtrunk.service usr/share/man/man1/webtrunk.1.gz usr/share/doc/webtrunk/copyright \
  usr/share/bash-completion/completions/webtrunk etc/webtrunk/webtrunk.toml etc/webtrunk/dialplans/default.toml; do
  [ -s "$work/root/$file" ] || { echo "$file is missing" >&2; exit 1; }
done
gzip -t "$work/root/usr/share/man/man1/webtrunk.1.gz"
bash -n "$work/root/usr/share/bash-completion/completions/webtrunk"
# With the folder that postinst makes, in a mount namespace, so that nothing is left on this machine.
unshare --mount --map-root-user sh -c '
  mount -t tmpfs none /var/lib && mkdir /var/lib/webtrunk && exec "$0" check-config -c "$1"' \
  "$work/root/usr/bin/webtrunk" "$work/root/etc/webtrunk/webtrunk.toml"
sh -n <(dpkg-deb --ctrl-tarfile "$work"/webtrunk_*.deb | tar -xO ./postinst)
echo "the package is sound"
