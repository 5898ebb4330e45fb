#!/usr/bin/env bash
# deny.sh check:   what the crates that are shipped may be, by interop/lint/deny.toml, with RustSec's
#                  advisories
# deny.sh offline: the same without advisories, which alone need a network
# deny.sh sbom:    target/package/webtrunk.cdx.json: the crates of the binary, and what its page has
#                  from npm, by CycloneDX
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in
  check | offline)
    cargo deny --version > /dev/null 2>&1 || cargo install cargo-deny --version 0.20.2 --locked --debug
    what=()
    [ "$1" = check ] || what=(bans licenses sources)
    cargo deny --locked ${what:+--offline} --config interop/lint/deny.toml --log-level error \
      check --hide-inclusion-graph "${what[@]}"
    ;;
  sbom)
    cargo cyclonedx --version > /dev/null 2>&1 || cargo install cargo-cyclonedx --version 0.5.9 --locked
    mkdir -p target/package
    trap 'rm -f webtrunk.cdx.json' EXIT
    cargo cyclonedx --format json --spec-version 1.5 --no-build-deps --override-filename webtrunk.cdx
    python3 interop/package/bom.py webtrunk.cdx.json
    mv webtrunk.cdx.json target/package/
    echo "target/package/webtrunk.cdx.json"
    ;;
  *)
    sed -n '2,7s/^# //p' "$0" >&2
    exit 2
    ;;
esac
