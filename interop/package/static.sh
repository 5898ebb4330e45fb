#!/usr/bin/env bash
# static.sh [TARGET] [PROFILE]: a binary that needs no library, target/package/TARGET/webtrunk. The C library,
# libopus and the rest are inside it, and it is run to show that; that of another processor by QEMU.
# Where no target is named it is this machine's own, with glibc. RUSTC is another compiler, which has the target
# already where rustup cannot fetch it: Debian's rustc-web, with libstd-rust-web-dev of the other architecture.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
export RUSTC=${RUSTC:-rustc}
host=$("$RUSTC" -vV | sed -n 's/^host: //p')
target=${1:-$host}
profile=${2:-release}
runner=()
cd "$root"
needs() { command -v "$1" > /dev/null || { echo "$target needs $1: apt-get install $2" >&2; exit 1; }; }
case $target in
  "$host") strip=strip ;;
  x86_64-unknown-linux-musl)
    needs cmake cmake
    needs musl-gcc musl-tools
    strip=strip
    # musl-gcc finds no kernel headers by itself, and aws-lc asks for two of them.
    headers=$root/target/musl-headers
    mkdir -p "$headers"
    ln -sfn /usr/include/linux "$headers/linux"
    ln -sfn /usr/include/asm-generic "$headers/asm-generic"
    ln -sfn "/usr/include/$(gcc -print-multiarch)/asm" "$headers/asm"
    export CC_x86_64_unknown_linux_musl=musl-gcc CFLAGS_x86_64_unknown_linux_musl="-idirafter $headers"
    ;;
  aarch64-unknown-linux-gnu)
    needs aarch64-linux-gnu-gcc "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
    needs qemu-aarch64-static qemu-user-static
    needs cmake cmake
    strip=aarch64-linux-gnu-strip
    runner=(qemu-aarch64-static)
    export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc AR_aarch64_unknown_linux_gnu=aarch64-linux-gnu-ar
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    # libopus is built, not taken from this machine, which is of another kind.
    export PKG_CONFIG_LIBDIR=/nonexistent CMAKE_SYSTEM_NAME=Linux CMAKE_SYSTEM_PROCESSOR=aarch64
    ;;
  *) echo "static.sh knows $host, x86_64-unknown-linux-musl and aarch64-unknown-linux-gnu" >&2; exit 2 ;;
esac
[ -d "$("$RUSTC" --print target-libdir --target "$target")" ] || rustup target add "$target"
LIBOPUS_STATIC=1 RUSTFLAGS="-C target-feature=+crt-static" cargo build --profile "$profile" --locked --bin webtrunk \
  --target "$target" --target-dir target/static
out=target/package/$target
mkdir -p "$out"
install -m755 "target/static/$target/$profile/webtrunk" "$out/webtrunk"
"$strip" --strip-unneeded "$out/webtrunk"
if readelf -d "$out/webtrunk" | grep -q NEEDED || readelf -l "$out/webtrunk" | grep -q INTERP; then
  echo "it still needs libraries, or a loader:" >&2
  readelf -ld "$out/webtrunk" >&2
  exit 1
fi
# Where nothing is but the binary.
alone=$(mktemp -d)
trap 'rm -rf "$alone"' EXIT
cp "$out/webtrunk" "$alone/"
for helper in "${runner[@]}"; do cp "$(command -v "$helper")" "$alone/"; done
# Root needs no namespace for that, and may get none: the engine that builds an image gives none.
enter=(chroot "$alone")
[ "$(id -u)" = 0 ] || enter=(unshare --map-root-user "${enter[@]}")
said=$("${enter[@]}" "${runner[@]/#//}" /webtrunk --version)
[ "$said" = "webtrunk $(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)" ] ||
  { echo "it said: $said" >&2; exit 1; }
"${enter[@]}" "${runner[@]/#//}" /webtrunk dialplan --help > /dev/null
ls -l "$out/webtrunk"
echo "$said runs for $target with no file beside it${runner:+, by ${runner[0]}}"
