# Two commands: `make demo` and `make test`. Both install what they need, or say what to type.
.PHONY: deb static demo test test-all hostile lint setup setup-build fuzz bench bench-sip bench-media page

SHELL := /bin/bash

demo: setup-build
	cargo run --release --locked -- demo

# Formatters and linters, Rust's own tests, the digit detector beside an hour of speech, the page's
# bundle byte for byte, then real SIPp, aiortc, Chromium, Firefox, Asterisk, Kamailio, linphone and
# baresip.
test: setup
	interop/lint.sh
	cargo test --locked
	cargo test --locked --features otlp --lib telemetry
	WEBTRUNK_SPEECH=/usr/share/asterisk/sounds cargo test --locked --test media -- --ignored
	interop/check-page.sh
	interop/package/check.sh
	interop/run.sh

# With the cases that take a minute and more, and many more random lives.
test-all: setup
	interop/lint.sh
	@interop/setup.sh bench
	WEBTRUNK_LIVES=5000 cargo test --locked
	WEBTRUNK_SPEECH=/usr/share/asterisk/sounds cargo test --locked --test media -- --ignored
	interop/check-page.sh
	WEBTRUNK_SLOW=1 interop/run.sh

# Attacks on a gateway of one's own, and what others notice of them: half an hour, and the
# scorecard, interop/SCORECARD.md. `make test` has a short form of it.
hostile: setup-build
	@interop/setup.sh hostile
	cargo build --release --locked
	cargo build --locked --example attacker
	cargo test --locked --no-run
	WEBTRUNK_BIN=$(CURDIR)/target/release/webtrunk interop/run.sh hostile --write interop/SCORECARD.md

# Formatting and lints of Rust, JavaScript, CSS and Python; interop/lint.sh --fix repairs.
lint: setup-build
	interop/lint.sh

# libopus is found by pkg-config, or built by cmake from the crate's own source.
setup-build:
	@interop/setup.sh build

setup:
	@interop/setup.sh test

page:
	cd src/web && npm ci --no-audit --no-fund && node node_modules/esbuild/install.js && npm run build

# A Debian package into target/package: binary, systemd unit, manual page, completions, /etc/webtrunk.
deb: setup-build
	cargo build --release --locked
	interop/package/deb.sh

# A binary that needs no library at all, into target/package.
static: setup-build
	interop/package/static.sh

fuzz:
	interop/fuzz.sh

bench:
	cargo bench --locked --bench sip --bench media

# Signalling beside Kamailio, in one run; minutes long.
bench-sip: setup-build
	@interop/setup.sh bench
	cargo build --release --locked
	interop/run.sh bench-sip

# Media beside rtpengine, likewise.
bench-media: setup-build
	@interop/setup.sh bench
	cargo bench --locked --bench density --no-run
	interop/run.sh bench-media
