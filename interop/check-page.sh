#!/usr/bin/env bash
# The page's sources are of the types they say, and the committed scripts are what they make, byte
# for byte.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
web=$here/../src/web
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$web" && git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$work")
rm -rf "$work/dist"
cd "$work"
npm ci --no-audit --no-fund --silent
node node_modules/esbuild/install.js
npm run --silent check
npm run --silent build
diff -rq dist "$web/dist"
# What a browser loads before the phone's JsSIP, as it is sent.
files=(index.html dist/page.css dist/{page,charts}.js)
bytes=$(for file in "${files[@]}"; do gzip -9c "$file" | wc -c; done | awk "{ n += \$1 } END { print n }")
[ "$bytes" -le 150000 ] || { echo "the page is $bytes bytes as gzip, more than 150,000" >&2; exit 1; }
echo "the page's scripts are what their sources make, $bytes bytes as gzip"
