#!/usr/bin/env bash
# bench.sh [--quick]: calls through Debian's rtpengine and through our workers in turn, with the same speech; then,
# unless --quick, what both make of it where packets are lost.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
speech=$(mktemp --suffix .wav)
heard=$(mktemp -d)
trap 'rm -rf "$speech" "$heard"' EXIT
# Half a minute of the announcements every Asterisk has: a human voice, recorded for the telephone.
mapfile -t clips < <(find /usr/share/asterisk/sounds -name '*.wav' -size +60k | LC_ALL=C sort | head -n 8)
sox "${clips[@]}" -r 8000 -c 1 -b 16 "$speech" trim 0 30
cd "$here/../.."
# Built once: what is measured does not change while it is.
program=$(cargo bench --locked --offline --bench density --no-run --message-format=json 2>/dev/null | sed -n 's#.*"executable":"\([^"]*/density-[^"]*\)".*#\1#p')
density() { taskset -c 1 "$program" "$speech" "$@"; }
density "$@"
if [ "${1:-}" != --quick ]; then
  density --quality="$heard"
  target/pesq/bin/python "$here/quality.py" "$speech" "$heard"
fi
