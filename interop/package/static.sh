#!/usr/bin/env bash
# static.sh: a binary that needs no library, into target/package. glibc, libopus and the rest are inside it.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
host=$(rustc -vV | sed -n 's/^host: //p')
cd "$root"
LIBOPUS_STATIC=1 RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --target "$host" --target-dir target/static
mkdir -p target/package
install -m755 "target/static/$host/release/webtrunk" target/package/webtrunk
strip --strip-unneeded target/package/webtrunk
ldd target/package/webtrunk 2>&1 | grep -Eq 'statically linked|not a dynamic' || { echo "it still needs libraries:" >&2; ldd target/package/webtrunk >&2; exit 1; }
ls -l target/package/webtrunk
