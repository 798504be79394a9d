#!/bin/bash
# Keeps a pt-heartbeat writing once a second; when it loses its server it is started again a second later.
#
#   HEARTBEAT_HOST, HEARTBEAT_PORT (3306), HEARTBEAT_USER (heartbeat), HEARTBEAT_PASSWORD   the server to write to
#   HEARTBEAT_TABLE (percona.heartbeat)
#   HEARTBEAT_LOCAL=yes   for the heartbeat of a replica itself: stays out of its binary log, so that a replica does not
#                         grow transactions of its own
#   HEARTBEAT_UTC=no      writes the time of the zone that TZ names, as pt-heartbeat does by itself
#   HEARTBEAT_CLOCK=+30s  lives by a clock that is so far ahead, or behind (-30s)
#
# Arguments are given on to pt-heartbeat.
set -euo pipefail

table=${HEARTBEAT_TABLE:-percona.heartbeat}
# The password stands in a file: an argument would show in the process list.
umask 077
printf '[client]\nhost=%s\nport=%s\nuser=%s\npassword="%s"\n' "${HEARTBEAT_HOST:?}" "${HEARTBEAT_PORT:-3306}" \
  "${HEARTBEAT_USER:-heartbeat}" "${HEARTBEAT_PASSWORD:-}" >/run/heartbeat.cnf
unset HEARTBEAT_PASSWORD

arguments=(--defaults-file /run/heartbeat.cnf --database "${table%%.*}" --table "${table#*.}"
  --update --interval 1 --create-table --create-table-engine InnoDB)
[[ ${HEARTBEAT_LOCAL:-no} != yes ]] || arguments+=(--set-vars sql_log_bin=0)
[[ ${HEARTBEAT_UTC:-yes} != yes ]] || arguments+=(--utc)
clock=()
[[ -z ${HEARTBEAT_CLOCK:-} ]] || clock=(faketime -f "$HEARTBEAT_CLOCK")

child=
trap '[[ -z $child ]] || kill "$child" 2>/dev/null; exit 0' TERM INT
while true; do
  "${clock[@]}" pt-heartbeat "${arguments[@]}" "$@" &
  child=$!
  wait "$child" || true
  sleep 1 &
  child=$!
  wait "$child"
done
