#!/usr/bin/env bash
# Formatters and linters of every language here, and what crates may be; installs Biome, ruff and
# cargo-deny if they are missing.
#   lint.sh [--fix]    --fix formats, and repairs what can be repaired without a decision
set -euo pipefail
cd "$(dirname "$0")/.."
lint=interop/lint
mapfile -t page < <(git ls-files '*.js' '*.mjs' '*.ts' '*.tsx' '*.css' ':!:*/dist/*')
mapfile -t python < <(git ls-files '*.py')

# The versions are pinned: a formatter of another version formats differently.
biome="$lint/node_modules/.bin/biome"
wanted=$(sed -n 's/.*"@biomejs\/biome": "\(.*\)".*/\1/p' "$lint/package.json")
if [ "$("$biome" --version 2> /dev/null)" != "Version: $wanted" ]; then
  (cd "$lint" && npm ci --no-audit --no-fund --silent)
fi
ruff=target/lint/bin/ruff
wanted=$(sed -n 's/^ruff==//p' "$lint/requirements.txt")
if [ "$("$ruff" --version 2> /dev/null)" != "ruff $wanted" ]; then
  python3 -m venv target/lint
  target/lint/bin/pip install -q --disable-pip-version-check -r "$lint/requirements.txt"
fi

if ! cargo fmt --version > /dev/null 2>&1 || ! cargo clippy --version > /dev/null 2>&1; then
  rustup component add rustfmt clippy
fi

if [ "${1:-}" = --fix ]; then
  cargo fmt
  "$biome" check --write --config-path="$lint" "${page[@]}"
  "$ruff" check --config "$lint/ruff.toml" --fix "${python[@]}"
  "$ruff" format --config "$lint/ruff.toml" "${python[@]}"
fi
cargo fmt --check
"$biome" check --error-on-warnings --config-path="$lint" "${page[@]}"
"$ruff" format --check --config "$lint/ruff.toml" "${python[@]}"
"$ruff" check --config "$lint/ruff.toml" "${python[@]}"
interop/deny.sh offline
cargo clippy --all-targets --locked -- -D warnings
# What only the fuzz targets are built with, which the tests' own code could hide.
cargo rustc --lib --profile check --locked --quiet -- --cfg fuzzing
echo "formatted and linted"
