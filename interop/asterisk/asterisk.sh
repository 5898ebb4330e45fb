#!/usr/bin/env bash
# asterisk.sh start|cli COMMAND|stop: runs the chrooted Asterisk with the configuration in etc/.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root="${WEBTRUNK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/webtrunk}/asterisk-root"
case "$1" in
  start)
    mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
    # It asks whom the namespace asks.
    mountpoint -q "$root/etc/resolv.conf" || mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
    # WEBTRUNK_ASTERISK_ETC: another folder than ours.
    cp "${WEBTRUNK_ASTERISK_ETC:-$here/etc}"/*.conf "$root/etc/asterisk/"
    sed -i '/astmoddir/d' "$root/etc/asterisk/asterisk.conf"
    grep -q '^entityid' "$root/etc/asterisk/asterisk.conf" || sed -i 's/^\[options\].*/[options]\nentityid = 02:00:00:00:00:01/' "$root/etc/asterisk/asterisk.conf"
    rm -rf "$root/var/run/asterisk/asterisk.ctl" "$root"/var/log/asterisk/messages* "$root"/tmp/wt-*
    mkdir -p "$root/var/run/asterisk"
    # It runs as root in its own folder; the package's user would own these.
    chown -R root:root "$root"/var/{lib,log,spool,run}/asterisk
    mkdir -p "$root/etc/asterisk/keys"
    # WEBTRUNK_CERTS: where certificates.sh has put them.
    cp "${WEBTRUNK_CERTS:?}"/{ca,asterisk}.pem "$WEBTRUNK_CERTS/asterisk.key" "$root/etc/asterisk/keys/"
    echo $$ > "$root/tmp/wt-asterisk.pid"
    exec chroot "$root" /usr/sbin/asterisk -f ;;
  cli) shift; exec chroot "$root" /usr/sbin/asterisk -rx "$*" ;;
  stop)
    # Only the one that was started here: a number may be another process's by now.
    pid=$(cat "$root/tmp/wt-asterisk.pid" 2> /dev/null || true)
    if [ -n "$pid" ] && [ "$(readlink "/proc/$pid/root")" = "$(realpath "$root")" ]; then kill -9 "$pid" || true; fi
    rm -f "$root/tmp/wt-asterisk.pid"
    umount "$root/etc/resolv.conf" 2> /dev/null || true
    umount "$root/proc" 2> /dev/null || true ;;
  root) echo "$root" ;;
  # baresip lives in the same folder: the host's own is too old for WebSocket.
  baresip) shift; exec chroot "$root" /usr/bin/baresip "$@" ;;
esac
