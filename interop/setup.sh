#!/usr/bin/env bash
# setup.sh build|test|bench|hostile: installs what building, or testing, needs beyond Rust and a C compiler.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
have() { command -v "$1" > /dev/null; }

missing=()
pkg-config --exists opus 2> /dev/null || have cmake || missing+=(libopus-dev pkg-config)
have cc || missing+=(gcc libc6-dev)
have make || missing+=(make)
if [ "$1" = test ]; then
  have chromium || missing+=(chromium)
  # How the page looks is compared in this font.
  [ -f /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf ] || missing+=(fonts-dejavu-core)
  have firefox-esr || missing+=(firefox-esr)
  # Firefox plays to a sound server, of which this is the smallest.
  have pulseaudio || missing+=(pulseaudio)
  have linphonec || missing+=(linphone-cli)
  have kamailio || missing+=(kamailio)
  have sipp || missing+=(sip-tester)
  have sox || missing+=(sox)
  have curl || missing+=(curl)
  have python3 || missing+=(python3)
  python3 -c 'import ensurepip' 2> /dev/null || missing+=(python3-venv)
  have debootstrap || missing+=(debootstrap)
  # Packages of the other family, images without a daemon, and the chart.
  have rpmbuild || missing+=(rpm)
  have umoci || missing+=(umoci)
  python3 -c 'import yaml' 2> /dev/null || missing+=(python3-yaml)
  have ip || missing+=(iproute2)
  have nginx || missing+=(nginx)
  have haproxy || missing+=(haproxy)
  have keepalived || missing+=(keepalived)
  have caddy || missing+=(caddy)
  have redis-server || missing+=(redis-server)
  have pebble || missing+=(pebble)
  # Speech in four languages, an hour and more.
  [ -d /usr/share/asterisk/sounds/it_IT_m_Carlo ] || missing+=(asterisk-core-sounds-{en,es,fr,it}-wav)
fi
if [ "$1" = test ] || [ "$1" = hostile ]; then
  have nft || missing+=(nftables)
  have openssl || missing+=(openssl)
  have python3 || missing+=(python3)
  have ip || missing+=(iproute2)
  have svwar || missing+=(sipvicious)
  have sslscan || missing+=(sslscan)
  ls /usr/lib/*/faketime/libfaketime.so.1 > /dev/null 2>&1 || missing+=(faketime)
fi
if [ "$1" = hostile ]; then
  have redis-server || missing+=(redis-server)
  have slowhttptest || missing+=(slowhttptest)
fi
if [ "$1" = bench ]; then
  have sipp || missing+=(sip-tester)
  have kamailio || missing+=(kamailio)
  ls /usr/lib/*/kamailio/modules/websocket.so > /dev/null 2>&1 || missing+=(kamailio-websocket-modules)
  have rtpengine || missing+=(rtpengine-daemon)
  have sox || missing+=(sox)
  python3 -c 'import ensurepip' 2> /dev/null || missing+=(python3-venv)
  [ -f /usr/include/python3*/Python.h ] || missing+=(python3-dev)
  [ -d /usr/share/asterisk/sounds ] || missing+=(asterisk-core-sounds-en-wav)
  have python3 || missing+=(python3)
  have ip || missing+=(iproute2)
fi
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && have apt-get; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" > /dev/null
  else
    echo "needed first:  sudo apt-get install ${missing[*]}" >&2
    exit 1
  fi
fi
have cargo || { echo "needed first: Rust 1.90 or later" >&2; exit 1; }
if [ "$1" = test ]; then
  (cd "$here/chromium" && npm ci --no-audit --no-fund --silent)
  "$here/aiortc/install.sh"
  "$here/asterisk/install.sh" > "${TMPDIR:-/tmp}/webtrunk-asterisk-install.log" 2>&1 ||
    { tail -n 20 "${TMPDIR:-/tmp}/webtrunk-asterisk-install.log"; exit 1; }
fi
# PESQ, for the media bench: built from its source by pip.
pesq="$here/../target/pesq"
if [ "$1" = bench ] && ! "$pesq/bin/python" -c 'import pesq' 2> /dev/null; then
  python3 -m venv "$pesq"
  "$pesq/bin/pip" install -q numpy cython setuptools wheel
  "$pesq/bin/pip" install -q pesq==0.0.4
fi
