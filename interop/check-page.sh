#!/usr/bin/env bash
# The committed bundles must be what their sources make, byte for byte, and the sources type-check.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$here"/../src/web/{package.json,package-lock.json,jssip-entry.js,console} "$work"
cd "$work"
npm ci --no-audit --no-fund --silent
node node_modules/esbuild/install.js
npm run --silent types
npm run --silent build > /dev/null
for made in dist/*; do
  cmp "$made" "$here/../src/web/$made"
done
echo "the page's bundles are what their sources make"
