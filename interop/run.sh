#!/usr/bin/env bash
# Runs the interop suites in a network namespace of their own: loopback, and two addresses on two interfaces.
#   run.sh [all|browser|sipp|hosts|proxies|acme|clients|cluster|takeover|store|avalanche|growth|aiortc|newcomer|hostile|chaos|soak|bench-sip|bench-media] [PART OF A CASE'S NAME, or the suite's options]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ -z "${WEBTRUNK_NETNS:-}" ]; then
  # Packages are packed and installed where there is a network.
  case "${1:-all}" in all | browser) "$here/chromium/app/install.sh" ;; esac
  case "${1:-all}" in all | clients) "$here/clients/install.sh" ;; esac
  WEBTRUNK_NETNS=1 exec unshare --net --mount --pid --fork --mount-proc --kill-child "$0" "$@"
fi
ip link set lo up
ip link add wt0 type veth peer name wt1
ip address add 10.44.0.1/24 dev wt0
# The gateway's public_ip is this one, the second: what is sent from the first comes from a stranger.
ip address add 10.45.0.1/24 dev wt1
ip link set wt0 up
ip link set wt1 up
# Nothing answers there; Firefox offers the address of its default route and no other.
ip route add default via 10.45.0.2 dev wt1
# Nobody serves names at the address named there, which is told at once; without it each look-up
# would wait for an answer by the default route.
mount --bind "$here/hosts/resolv.conf" "$(realpath /etc/resolv.conf)"
suite="${1:-all}"
case "$suite" in
  all | browser | sipp | hosts | proxies | acme | clients | cluster | takeover | store | avalanche | growth | aiortc | newcomer | hostile | chaos | soak | bench-sip | bench-media) shift || true ;;
  *) suite=browser ;;
esac
cluster() {
  node "$here/cluster/run.mjs" "$@"
  "$here/cluster/balancer.sh" up
  ip netns exec trunks "$here/cluster/trunk.py" "$@"
  # Its cases have no names.
  [ $# -gt 0 ] || ip netns exec trunks "$here/cluster/asterisk.py"
  "$here/cluster/balancer.sh" down
  node "$here/cluster/takeover.mjs" "$@"
  # The cases of real browsers are named by parts of their names, these by their own.
  [ $# -gt 0 ] || "$here/cluster/takeover.py"
}
case "$suite" in
  all)
    python3 "$here/sipp/run.py" ${WEBTRUNK_SLOW:+--all}
    "$here/hosts/run.py"
    "$here/proxies/run.py"
    "$here/acme/run.py"
    "$here/clients/run.py"
    "$here/aiortc/run.py"
    "$here/cluster/store.py"
    if [ -n "${WEBTRUNK_SLOW:-}" ]; then cluster; fi
    "$here/newcomer/run.py"
    [ -z "${WEBTRUNK_SLOW:-}" ] || "$here/hostile/run.py" --short
    "$here/chaos/run.py" --short ${WEBTRUNK_SLOW:+--all}
    cd "$here/chromium" && exec node suite.mjs ;;
  hosts) exec "$here/hosts/run.py" ;;
  proxies) exec "$here/proxies/run.py" "$@" ;;
  cluster) cluster "$@" ;;
  takeover) exec "$here/cluster/takeover.py" "$@" ;;
  store) exec "$here/cluster/store.py" ;;
  avalanche) exec "$here/cluster/avalanche.py" "$@" ;;
  growth) exec "$here/cluster/growth.py" "$@" ;;
  clients) exec "$here/clients/run.py" ;;
  acme) exec "$here/acme/run.py" "$@" ;;
  aiortc) exec "$here/aiortc/run.py" "$@" ;;
  newcomer) exec "$here/newcomer/run.py" "$@" ;;
  hostile) exec "$here/hostile/run.py" "$@" ;;
  chaos) exec "$here/chaos/run.py" "$@" ;;
  sipp) exec python3 "$here/sipp/run.py" "$@" ;;
  browser) cd "$here/chromium" && exec node suite.mjs "$@" ;;
  soak) exec "$here/soak/run.py" "$@" ;;
  bench-sip) exec python3 "$here/kamailio/bench.py" "$@" ;;
  bench-media) exec "$here/rtpengine/bench.sh" "$@" ;;
esac
