#!/usr/bin/env bash
# bench.sh [--quick]: calls through Debian's rtpengine and through our workers in turn, with the same speech.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
speech=$(mktemp --suffix .wav)
trap 'rm -f "$speech"' EXIT
# Half a minute of the announcements every Asterisk has: a human voice, recorded for the telephone.
mapfile -t clips < <(find /usr/share/asterisk/sounds -name '*.wav' -size +60k | LC_ALL=C sort | head -n 8)
sox "${clips[@]}" -r 8000 -c 1 -b 16 "$speech" trim 0 30
cd "$here/../.."
taskset -c 1 cargo bench --locked --offline --bench density -- "$speech" "$@"
