#!/usr/bin/env bash
# The committed bundle must be what its sources make, byte for byte.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here"/../src/web/{package.json,package-lock.json,jssip-entry.js} "$work"
cd "$work"
npm ci --no-audit --no-fund --silent
node node_modules/esbuild/install.js
npm run --silent build > /dev/null
cmp dist/jssip.js "$here/../src/web/dist/jssip.js"
echo "the page's bundle is what its sources make"
