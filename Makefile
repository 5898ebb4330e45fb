# Two commands: `make demo` and `make test`. Both install what they need, or say what to type.
.PHONY: install install-built deb static dist demo test test-all hostile chaos lint setup setup-build fuzz deny sbom soak bench bench-growth \
	bench-sip bench-media page packages

SHELL := /bin/bash

demo: setup-build
	cargo run --profile demo --no-default-features --locked -- demo

# Formatters and linters, Rust's own tests, the digit detector beside an hour of speech, the page's
# bundle byte for byte, then real SIPp, aiortc, Chromium, Firefox, Asterisk, Kamailio, linphone and
# baresip, and calls under kill -9.
test: setup
	interop/lint.sh
	cargo test --locked
	cargo test --locked --features otlp --lib telemetry
	WEBTRUNK_SPEECH=/usr/share/asterisk/sounds cargo test --locked --test media -- --ignored
	interop/check-page.sh
	interop/package/check.sh
	interop/run.sh

# With the cases that take a minute and more, and many more random lives.
test-all: setup deny
	interop/lint.sh
	@interop/setup.sh bench
	WEBTRUNK_LIVES=5000 cargo test --locked
	WEBTRUNK_SPEECH=/usr/share/asterisk/sounds cargo test --locked --test media -- --ignored
	interop/check-page.sh
	WEBTRUNK_SLOW=1 interop/run.sh
	FUZZ_SECONDS=30 interop/fuzz.sh

# Attacks on a gateway of one's own, and what others notice of them: half an hour, and the
# scorecard, interop/SCORECARD.md. `make test-all` has a short form of it.
hostile: setup-build
	@interop/setup.sh hostile
	cargo build --release --locked
	cargo build --locked --example attacker
	cargo test --locked --no-run
	WEBTRUNK_BIN=$(CURDIR)/target/release/webtrunk interop/run.sh hostile --write interop/SCORECARD.md

# What calls outlive: kills, stalls, full disks, torn files, lost connections. A quarter of an hour,
# and interop/chaos/REPORT.md. `make test` has the kills, with fewer calls.
chaos: setup
	@interop/setup.sh bench
	cargo build --release --locked
	cargo build --release --locked --example phones
	WEBTRUNK_BIN=$(CURDIR)/target/release/webtrunk \
	  WEBTRUNK_PHONES=$(CURDIR)/target/release/examples/phones \
	  interop/run.sh chaos --write interop/chaos/REPORT.md

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

# The binary, its manual pages and completions, below PREFIX, where this user may write: that is
# looked at before the build.
PREFIX ?= /usr/local
BUILT ?= target/release/webtrunk
share = $(DESTDIR)$(PREFIX)/share
install: setup-build
	@place="$(DESTDIR)$(PREFIX)"; while [ ! -e "$$place" ]; do place=$$(dirname "$$place"); done; \
	  [ -w "$$place" ] || { echo "$$place is not yours to write to. Either:  make install PREFIX=$$HOME/.local" >&2; \
	  echo "or:  cargo build --release --locked && sudo make install-built" >&2; exit 1; }
	cargo build --release --locked
	@$(MAKE) --no-print-directory install-built

# The same of a binary that is built already: this needs no Rust.
install-built:
	install -Dm755 $(BUILT) $(DESTDIR)$(PREFIX)/bin/webtrunk
	$(BUILT) man --dir $(share)/man/man1
	install -d $(share)/bash-completion/completions $(share)/zsh/site-functions $(share)/fish/vendor_completions.d
	$(BUILT) completions bash > $(share)/bash-completion/completions/webtrunk
	$(BUILT) completions zsh > $(share)/zsh/site-functions/_webtrunk
	$(BUILT) completions fish > $(share)/fish/vendor_completions.d/webtrunk.fish
	@case ":$$PATH:" in *":$(PREFIX)/bin:"*) ;; *) [ -n "$(DESTDIR)" ] || echo "add $(PREFIX)/bin to PATH" ;; esac

# @webtrunk/phone and @webtrunk/button as npm packages, into target/packages.
packages:
	cd src/web && npm ci --no-audit --no-fund && node node_modules/esbuild/install.js && node build.mjs packages ../../target/packages

# A Debian package into target/package: binary, systemd unit, manual page, completions, /etc/webtrunk.
deb: setup-build
	cargo build --release --locked
	interop/package/deb.sh

# A release, into target/package: archives, .deb, .rpm and images for x86-64 and arm64, npm packages,
# chart, formula, bill of materials and sums.
dist: setup-build
	interop/package/dist.sh

# A binary that needs no library at all, into target/package.
static: setup-build
	interop/package/static.sh

# Every parser of bytes from outside, ten minutes each.
fuzz:
	interop/fuzz.sh

# Licences, sources, double crates, and RustSec's advisories, which need a network.
deny:
	interop/deny.sh check

# A bill of materials, CycloneDX 1.5, into target/package.
sbom:
	interop/deny.sh sbom

# Half an hour of calls, registrations and failures on one gateway, which ends as it began.
soak: setup
	cargo build --release --locked
	interop/run.sh soak

bench:
	cargo bench --locked --bench sip --bench media

# What a number costs on one node, at n and at ten times n; minutes long.
bench-growth: setup-build
	cargo bench --locked --bench growth

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
