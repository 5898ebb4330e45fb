#!/usr/bin/env bash
# rpm.sh DEB [FOLDER]: the same files as the Debian package, for systems of RPM, by their own rpmbuild.
set -euo pipefail
deb=$(realpath "$1")
out=$(realpath -m "${2:-$(dirname "$deb")}")
command -v rpmbuild > /dev/null || { echo "needed first: apt-get install rpm" >&2; exit 1; }
version=$(dpkg-deb --field "$deb" Version)
case $(dpkg-deb --field "$deb" Architecture) in amd64) arch=x86_64 ;; arm64) arch=aarch64 ;; *) arch=noarch ;; esac
# A binary that needs this system's libraries would look for them where others have none of these names.
case $(dpkg-deb --field "$deb" Depends) in *libopus0*) requires="Requires: opus" ;; *) requires="" ;; esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
dpkg-deb -x "$deb" "$work/root"
# Where each family has them.
mkdir -p "$work/root/usr/share/zsh/site-functions"
mv "$work"/root/usr/share/zsh/vendor-completions/_webtrunk "$work/root/usr/share/zsh/site-functions/"
rmdir "$work/root/usr/share/zsh/vendor-completions"
# Its licences as its own family has them, and no changelog of the other.
here=$(cd "$(dirname "$0")" && pwd)
rm "$work"/root/usr/share/doc/webtrunk/{copyright,changelog.gz}
install -d "$work/root/usr/share/licenses/webtrunk"
install -m644 "$here"/../../LICENSE-{MIT,APACHE} "$work/root/usr/share/licenses/webtrunk/"
cat > "$work/webtrunk.spec" << EOF
Name: webtrunk
Version: ${version/-/\~}
Release: 1
Summary: SIP-to-WebRTC gateway: a web page can telephone
License: MIT OR Apache-2.0
AutoReqProv: no
$requires
%description
Browsers speak SIP over WebSocket to it and register; it bridges their calls
to SIP trunks, and keeps what happened to every call.
%pre
getent group webtrunk > /dev/null || groupadd --system webtrunk
getent passwd webtrunk > /dev/null || useradd --system --gid webtrunk --home-dir /var/lib/webtrunk --shell /sbin/nologin webtrunk
%post
install -d -o webtrunk -g webtrunk -m 750 /var/lib/webtrunk
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  if [ "\$1" -gt 1 ] && systemctl is-active --quiet webtrunk.service; then
    systemctl start webtrunk-upgrade.service || echo "webtrunk: the old version still runs; drain and restart it" >&2
  fi
fi
%preun
if [ "\$1" = 0 ] && [ -d /run/systemd/system ]; then systemctl stop webtrunk.service || true; fi
%files
%attr(755,root,root) /usr/bin/webtrunk
/usr/lib/systemd/system/*.service
/usr/share/man/man1/*.gz
/usr/share/bash-completion/completions/webtrunk
/usr/share/zsh/site-functions/_webtrunk
/usr/share/fish/vendor_completions.d/webtrunk.fish
%doc /usr/share/doc/webtrunk
%license /usr/share/licenses/webtrunk
%dir %attr(750,root,webtrunk) /etc/webtrunk
%dir %attr(750,root,webtrunk) /etc/webtrunk/dialplans
%config(noreplace) %attr(640,root,webtrunk) /etc/webtrunk/webtrunk.toml
%config(noreplace) %attr(640,root,webtrunk) /etc/webtrunk/dialplans/default.toml
EOF
payload=w9.xzdio
[ -z "${PACKED_LIGHTLY:-}" ] || payload=w1.gzdio
rpmbuild -bb --quiet --target "$arch" --buildroot "$work/root" --define "_topdir $work/top" --define "_rpmdir $out" \
  --define '_build_name_fmt %%{NAME}-%%{VERSION}.%%{ARCH}.rpm' --define '__os_install_post %{nil}' \
  --define "_binary_payload $payload" --define '_build_id_links none' "$work/webtrunk.spec"
ls "$out"/webtrunk-*."$arch".rpm
