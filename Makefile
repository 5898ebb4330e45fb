# Two commands: `make demo` and `make test`. Both install what they need, or say what to type.
.PHONY: demo test setup setup-build fuzz bench page

SHELL := /bin/bash

demo: setup-build
	cargo run --release --locked -- demo

# Rust's own tests, the page's bundle byte for byte, then real Chromium, Asterisk and SIPp.
test: setup
	cargo test --locked
	interop/check-page.sh
	interop/run.sh

# libopus is found by pkg-config, or built by cmake from the crate's own source.
setup-build:
	@interop/setup.sh build

setup:
	@interop/setup.sh test

page:
	cd src/web && npm ci --no-audit --no-fund && node node_modules/esbuild/install.js && npm run build

fuzz:
	interop/fuzz.sh

bench:
	cargo bench --locked
