#!/usr/bin/env bash
# Machines (namespaces) for three nodes and for trunks, and between them a balancer that knows
# nothing of SIP: trunks know one address, and it hands each of their packets to some node.
#   balancer.sh up | down
#   balancer.sh next NODE...     packet by packet, to one node after the other
#   balancer.sh wrong            a caller's INVITE to a, everything else of the trunks to b and c
# Nodes: 10.49.0.11 to 13, media by their ports. Trunks: 10.48.0.0/16, of which 10.48.3.0/24 is
# beside the balancer, sends to the nodes' own addresses, and is answered from them.
set -euo pipefail
SHARED=10.48.0.100
declare -A AT=([a]=10.49.0.11 [b]=10.49.0.12 [c]=10.49.0.13)

down() {
  for space in na nb nc balancer trunks; do ip netns del "$space" 2> /dev/null || true; done
  ip link del br1 2> /dev/null || true
}

up() {
  down
  mkdir -p /run/netns
  mountpoint -q /run/netns || mount -t tmpfs none /run/netns
  ip link add br1 type bridge
  ip address add 10.49.0.1/24 dev br1
  ip link set br1 up
  join balancer 10.49.0.2
  for node in a b c; do
    join "n$node" "${AT[$node]}"
    ip -n "n$node" route add 10.48.0.0/16 via 10.49.0.2
  done
  ip netns add trunks
  ip -n trunks link set lo up
  ip -n balancer link add out type veth peer name eth0 netns trunks
  ip -n balancer address add "$SHARED/16" dev out
  ip -n balancer link set out up
  ip netns exec balancer sysctl -q net.ipv4.ip_forward=1
  ip -n trunks address add 10.48.0.2/16 dev eth0
  ip -n trunks link set eth0 up
  ip -n trunks route add 10.49.0.0/24 via "$SHARED"
  # Each SIPp has an address of its own.
  for net in 1 2 3; do ip -n trunks route add local "10.48.$net.0/24" dev lo; done
  next a b c
}

# A namespace on the bridge.
join() {
  ip netns add "$1"
  ip link add "v$1" type veth peer name eth0 netns "$1"
  ip link set "v$1" master br1
  ip link set "v$1" up
  ip -n "$1" link set lo up
  ip -n "$1" address add "$2/24" dev eth0
  ip -n "$1" link set eth0 up
}

next() {
  local count=0 map=""
  for node in "$@"; do
    map+="${map:+, }$count : ${AT[$node]}"
    count=$((count + 1))
  done
  hand_out "ip daddr set numgen inc mod $count map { $map }"
}

wrong() {
  # Behind the 8 bytes of UDP's header: "INVITE ".
  hand_out "ip saddr 10.48.1.0/24 @th,64,56 0x494e5649544520 ip daddr set ${AT[a]}" \
    "ip daddr set numgen inc mod 2 map { 0 : ${AT[b]}, 1 : ${AT[c]} }"
}

# The rules for SIP. Nothing is kept of a packet: what comes next may go elsewhere.
hand_out() {
  local sip="" media="" n=0
  for rule in "$@"; do sip+="ip daddr $SHARED udp dport 5060 $rule"$'\n'; done
  for node in a b c; do
    media+="ip daddr $SHARED udp dport $((20000 + 1000 * n))-$((20999 + 1000 * n)) "
    media+="ip daddr set ${AT[$node]}"$'\n'
    n=$((n + 1))
  done
  ip netns exec balancer nft -f - << EOF
table ip balancer
delete table ip balancer
table ip balancer {
  chain in {
    type filter hook prerouting priority -300
    $sip
    $media
  }
  chain out {
    type filter hook postrouting priority 300
    ip saddr 10.49.0.0/24 ip daddr 10.48.0.0/16 ip daddr != 10.48.3.0/24 udp sport { 5060, 20000-22999 } ip saddr set $SHARED
  }
}
EOF
}

case "$1" in
  up | down | wrong) "$1" ;;
  next) shift && next "$@" ;;
  *) exit 2 ;;
esac
