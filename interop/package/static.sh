#!/usr/bin/env bash
# static.sh [TARGET] [PROFILE]: a binary that needs no library, target/package/TARGET/webtrunk. The C library,
# libopus and the rest are inside it, and it is run to show that; that of another processor by QEMU.
# Where no target is named it is this machine's own, with glibc. RUSTC is another compiler.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
export RUSTC=${RUSTC:-rustc}
host=$("$RUSTC" -vV | sed -n 's/^host: //p')
target=${1:-$host}
profile=${2:-release}
runner=()
cd "$root"
# A compiler for musl finds no kernel headers by itself, and aws-lc asks for two of them.
kernel_headers() {
  headers=$root/target/musl-headers/$target
  mkdir -p "$headers"
  ln -sfn "$1/linux" "$headers/linux"
  ln -sfn "$1/asm-generic" "$headers/asm-generic"
  ln -sfn "$2/asm" "$headers/asm"
}
needs() { command -v "$1" > /dev/null || { echo "$target needs $1: apt-get install $2" >&2; exit 1; }; }
case $target in
  "$host") strip=strip ;;
  x86_64-unknown-linux-musl)
    needs cmake cmake
    needs musl-gcc musl-tools
    strip=strip
    kernel_headers /usr/include "/usr/include/$(gcc -print-multiarch)"
    export CC_x86_64_unknown_linux_musl=musl-gcc CFLAGS_x86_64_unknown_linux_musl="-idirafter $headers"
    ;;
  aarch64-unknown-linux-musl)
    needs aarch64-linux-gnu-gcc "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
    needs aarch64-linux-musl-gcc "musl-dev:arm64, once dpkg --add-architecture arm64 and apt-get update were run"
    needs qemu-aarch64-static qemu-user-static
    needs cmake cmake
    strip=aarch64-linux-gnu-strip
    runner=(qemu-aarch64-static)
    # Debian's is aarch64-linux-gnu-gcc with musl's headers; the kernel's come from those of the cross compiler.
    # Atomics out of line would ask libgcc, which asks glibc which of them this processor has.
    kernel_headers /usr/aarch64-linux-gnu/include /usr/aarch64-linux-gnu/include
    export CC_aarch64_unknown_linux_musl=aarch64-linux-musl-gcc AR_aarch64_unknown_linux_musl=aarch64-linux-gnu-ar
    export CFLAGS_aarch64_unknown_linux_musl="-idirafter $headers -mno-outline-atomics"
    # Kernels of arm64 have pages of 4, 16 or 64 kB, and jemalloc runs on those it was built for and smaller ones.
    export JEMALLOC_SYS_WITH_LG_PAGE=16
    # Rust brings musl itself, and what it is linked with.
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=aarch64-linux-gnu-gcc
    # libopus is built, not taken from this machine, which is of another kind.
    export PKG_CONFIG_LIBDIR=/nonexistent CMAKE_SYSTEM_NAME=Linux CMAKE_SYSTEM_PROCESSOR=aarch64
    ;;
  *) echo "static.sh knows $host, x86_64-unknown-linux-musl and aarch64-unknown-linux-musl" >&2; exit 2 ;;
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
