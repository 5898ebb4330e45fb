#!/usr/bin/env bash
# The generators of clients and the libraries of Standard Webhooks, into target/clients.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$here/../../target/clients
sources=$(cat "$here"/package*.json "$0" | sha256sum)
[ "$(cat "$out/sources" 2> /dev/null)" = "$sources" ] && exit
mkdir -p "$out"
cp "$here"/package*.json "$out"
(cd "$out" && npm ci --no-audit --no-fund --silent)
python3 -m venv "$out/python"
"$out/python/bin/pip" install -q --disable-pip-version-check openapi-python-client==0.29.1 standardwebhooks==1.1.0
echo "$sources" > "$out/sources"
