#!/usr/bin/env bash
# image.sh BINARY FILE: an OCI image of a static binary and nothing else, as an archive that `podman load`, `skopeo` and
# `docker load` take. umoci makes it: no daemon, no registry and no root.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
binary=$1
out=$2
command -v umoci > /dev/null || { echo "needed first: apt-get install umoci" >&2; exit 1; }
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -1)
architecture=${3:-amd64}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The binary; a place for state; roots of trust and users as distroless images have them.
mkdir -p "$work/root/etc/ssl/certs" "$work/root/etc/webtrunk/dialplans" "$work/root/var/lib/webtrunk" "$work/root/tmp"
install -m755 "$binary" "$work/root/webtrunk"
install -m644 /etc/ssl/certs/ca-certificates.crt "$work/root/etc/ssl/certs/ca-certificates.crt"
echo 'webtrunk:x:65532:65532:webtrunk:/var/lib/webtrunk:/sbin/nologin' > "$work/root/etc/passwd"
echo 'webtrunk:x:65532:' > "$work/root/etc/group"
chmod 1777 "$work/root/tmp"
chmod 777 "$work/root/var/lib/webtrunk"
rootless=$([ "$(id -u)" = 0 ] || echo --rootless)
umoci init --layout "$work/image"
umoci new --image "$work/image:$version"
# Not `umoci insert`: that of 0.4.7 ends its layers too early, and nothing unpacks them.
# shellcheck disable=SC2086
umoci unpack $rootless --image "$work/image:$version" "$work/bundle"
cp -a "$work/root/." "$work/bundle/rootfs/"
umoci repack --image "$work/image:$version" "$work/bundle"
umoci config --image "$work/image:$version" --architecture "$architecture" --os linux \
  --config.user 65532:65532 --config.workingdir /var/lib/webtrunk \
  --config.entrypoint /webtrunk --config.cmd demo --config.cmd --listen --config.cmd 0.0.0.0 \
  --config.exposedports 8088/tcp --config.exposedports 8088/udp \
  --config.label "org.opencontainers.image.version=$version" \
  --config.label "org.opencontainers.image.licenses=MIT OR Apache-2.0" \
  --config.label "org.opencontainers.image.title=webtrunk"
umoci gc --layout "$work/image"
tar -C "$work/image" -cf "$out" .
echo "$out"
