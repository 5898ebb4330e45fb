#!/usr/bin/env bash
# install.sh: an application into target/packages/app, with the packages of the present sources packed
# and installed as a registry would give them. Nothing is done if that is there already.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../../..
web=$root/src/web
out=$root/target/packages
sources=$(cat "$web"/package-lock.json "$web"/build.mjs "$here"/* $(find "$web/packages" -type f | sort) | sha256sum)
[ "$(cat "$out/app/sources" 2> /dev/null)" = "$sources" ] && exit
(cd "$web" && npm ci --no-audit --no-fund --silent && node node_modules/esbuild/install.js)
(cd "$web" && node build.mjs packages "$out")
mkdir -p "$out/app"
cp "$here"/package*.json "$out/app"
cd "$out/app"
npm ci --no-audit --no-fund --silent
npm install --no-save --no-package-lock --prefer-offline --no-audit --no-fund --silent "$out"/*.tgz
echo "$sources" > sources
