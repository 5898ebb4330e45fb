#!/usr/bin/env bash
# aiortc, a WebRTC stack in Python of its own, and a WebSocket for it, into target/aiortc.
set -euo pipefail
venv=$(cd "$(dirname "$0")/../.." && pwd)/target/aiortc
"$venv/bin/python" -c 'import aiortc, websockets' 2> /dev/null && exit 0
python3 -m venv "$venv"
"$venv/bin/pip" install -q aiortc==1.16.0 websockets==17.4
