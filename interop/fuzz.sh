#!/usr/bin/env bash
# Each fuzz target for a minute (or FUZZ_SECONDS), seeded with the corpus.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v cargo-fuzz > /dev/null || cargo install cargo-fuzz --locked
seeds=$(mktemp -d)
trap 'rm -rf "$seeds"' EXIT
find tests/corpus -name '*.sip' -exec sh -c 'cp "$1" "$2/$(basename "$(dirname "$1")")-$(basename "$1")"' _ {} "$seeds" \;
find tests/corpus -name '*.sdp' -exec cp {} "$seeds" \;
# The sanitizer's flags are nightly's; the stable compiler takes them when told that we know.
export RUSTC_BOOTSTRAP=1
for target in sip sdp stun rtp rtcp snapshot; do
  mkdir -p "tests/fuzz/corpus/$target"
  cargo fuzz run --fuzz-dir tests/fuzz "$target" "tests/fuzz/corpus/$target" "$seeds" -- \
    -max_total_time="${FUZZ_SECONDS:-60}" -max_len=4096 -timeout=1 -print_final_stats=1
done
