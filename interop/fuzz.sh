#!/usr/bin/env bash
# Fuzzes every parser of bytes from outside, each target for FUZZ_SECONDS (600), as many at once as
# there are processors.
#   fuzz.sh [TARGET…]    these only
# Inputs that were found are kept in tests/fuzz/corpus; what fails, in tests/fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v cargo-fuzz > /dev/null || cargo install cargo-fuzz --version 0.13.2 --locked
# The sanitizer's flags are nightly's; the stable compiler takes them when told that we know.
export RUSTC_BOOTSTRAP=1
# The crates that are shipped are those that are fuzzed.
cp Cargo.lock tests/fuzz/Cargo.lock
cargo fuzz build --fuzz-dir tests/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
export host
targets=("$@")
if [ $# = 0 ]; then
  mapfile -t targets < <(sed -n 's/^name = "\(.*\)"/\1/p' tests/fuzz/Cargo.toml | tail -n +2)
fi

fuzz() {
  local target=$1 corpus=tests/fuzz/corpus/$1 log=target/fuzz/$1.log
  local seeds=(tests/fuzz/seeds/"$target")
  mkdir -p "$corpus" "tests/fuzz/artifacts/$target" target/fuzz
  case $target in
    sip) seeds+=(tests/torture/rfc4475 target/fuzz/seeds/sip) ;;
    sdp) seeds+=(target/fuzz/seeds/sdp) ;;
  esac
  # Each target bounds its own time by the kilobyte; -timeout ends what never ends.
  # It is built: to ask cargo once more for each would build once more for each.
  if "tests/fuzz/target/$host/release/$target" "$corpus" "${seeds[@]}" \
    -artifact_prefix="tests/fuzz/artifacts/$target/" -max_total_time="${FUZZ_SECONDS:-600}" \
    -max_len=16384 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 > "$log" 2>&1; then
    echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs, nothing found"
  else
    echo "$target: FAILED, see $log"
    grep -m3 -E 'panicked|ERROR|took' -A1 "$log" || tail -5 "$log"
    return 1
  fi
}
export -f fuzz

# Messages and descriptions of real peers.
for kind in sip sdp; do
  rm -rf "target/fuzz/seeds/$kind"
  mkdir -p "target/fuzz/seeds/$kind"
  find tests/corpus -name "*.$kind" | while read -r file; do
    cp "$file" "target/fuzz/seeds/$kind/$(tr / - <<< "${file#tests/corpus/}")"
  done
done
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -c 'fuzz {}'
