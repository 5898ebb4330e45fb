#!/usr/bin/env bash
# deb.sh [BINARY] [FOLDER] [ARCHITECTURE]: a Debian package of a built webtrunk, into FOLDER (target/package where left
# out). NATIVE is a binary of this machine, which writes the manual, where BINARY is of another.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
binary=${1:-$root/target/release/webtrunk}
out=${2:-$root/target/package}
[ -x "$binary" ] || { echo "there is no $binary: cargo build --release" >&2; exit 1; }
native=${NATIVE:-$binary}
version=$("$native" --version | awk '{ print $2 }')
arch=${3:-$(dpkg --print-architecture)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# It becomes the package's own root, which others may look into.
chmod 755 "$work"
install -Dm755 "$binary" "$work/usr/bin/webtrunk"
[ -n "${KEEP_SYMBOLS:-}" ] || strip --strip-unneeded "$work/usr/bin/webtrunk"
install -Dm644 "$root/interop/systemd/webtrunk.service" "$work/usr/lib/systemd/system/webtrunk.service"
install -Dm644 "$root/interop/systemd/webtrunk-upgrade.service" "$work/usr/lib/systemd/system/webtrunk-upgrade.service"
install -Dm640 "$root/interop/package/webtrunk.toml" "$work/etc/webtrunk/webtrunk.toml"
install -Dm640 "$root/interop/package/default.toml" "$work/etc/webtrunk/dialplans/default.toml"
install -d "$work/usr/share/man/man1" "$work/usr/share/bash-completion/completions" "$work/usr/share/zsh/vendor-completions" "$work/usr/share/fish/vendor_completions.d"
"$native" man --dir "$work/usr/share/man/man1"
gzip -9n "$work/usr/share/man/man1/"*.1
"$native" completions bash > "$work/usr/share/bash-completion/completions/webtrunk"
"$native" completions zsh > "$work/usr/share/zsh/vendor-completions/_webtrunk"
"$native" completions fish > "$work/usr/share/fish/vendor_completions.d/webtrunk.fish"
install -Dm644 "$root/README.md" "$work/usr/share/doc/webtrunk/README.md"
# Debian has the text of the Apache licence once, for all packages.
cat > "$work/usr/share/doc/webtrunk/copyright" << EOF
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: webtrunk
Comment: What the program is made of is in its bill of materials, webtrunk.cdx.json.

Files: *
Copyright: $(sed -n 's/^Copyright (c) //p' "$root/LICENSE-MIT")
License: Expat or Apache-2.0

License: Expat
$(sed -n '/^Permission/,$s/^/ /p' "$root/LICENSE-MIT" | sed 's/^ $/ ./')

License: Apache-2.0
 On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.
EOF
gzip -9n > "$work/usr/share/doc/webtrunk/changelog.gz" << EOF
webtrunk ($version) unstable; urgency=medium

  * What changed is in the book, at /docs/changelog of the running gateway.

 -- the engineers of webtrunk <webtrunk@localhost>  $(git -C "$root" log -1 --format=%cD 2> /dev/null || date -R)
EOF
# What it is linked to, by the packages that bring it.
depends=adduser
if readelf -d "$binary" | grep -q 'NEEDED.*libc\.so'; then
  libc=$(dpkg-query -W -f '${Version}' libc6 | sed 's/-.*//')
  depends="$depends, libc6 (>= $libc)"
fi
if readelf -d "$binary" | grep -q 'NEEDED.*libopus\.so'; then depends="$depends, libopus0"; fi
install -d "$work/DEBIAN"
printf '/etc/webtrunk/webtrunk.toml\n/etc/webtrunk/dialplans/default.toml\n' > "$work/DEBIAN/conffiles"
cat > "$work/DEBIAN/control" << EOF
Package: webtrunk
Version: $version
Architecture: $arch
Maintainer: the engineers of webtrunk <webtrunk@localhost>
Installed-Size: $(du -sk "$work" | cut -f1)
Depends: $depends
Section: comm
Priority: optional
Description: SIP-to-WebRTC gateway: a web page can telephone
 Browsers speak SIP over WebSocket to it and register; it bridges their calls
 to SIP trunks, and keeps what happened to every call.
EOF
cat > "$work/DEBIAN/postinst" << 'EOF'
#!/bin/sh
set -e
if [ "$1" = configure ]; then
  adduser --system --group --home /var/lib/webtrunk --no-create-home --quiet webtrunk
  # Secrets may be written there.
  chgrp -R webtrunk /etc/webtrunk
  chmod 750 /etc/webtrunk /etc/webtrunk/dialplans
  # systemd makes it at the start; check-config looks at it before.
  install -d -o webtrunk -g webtrunk -m 750 /var/lib/webtrunk
  if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    # Calls go on in the new version; where it cannot take them, the old one stays until a restart.
    if [ -n "$2" ] && systemctl is-active --quiet webtrunk.service; then
      systemctl start webtrunk-upgrade.service || echo "webtrunk: the old version still runs; drain and restart it" >&2
    fi
  fi
fi
EOF
cat > "$work/DEBIAN/prerm" << 'EOF'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then systemctl stop webtrunk.service || true; fi
EOF
chmod 755 "$work/DEBIAN/postinst" "$work/DEBIAN/prerm"
mkdir -p "$out"
# shellcheck disable=SC2086
dpkg-deb ${PACKED_LIGHTLY:+-Zgzip -z1} --root-owner-group --build "$work" "$out/webtrunk_${version}_$arch.deb"
