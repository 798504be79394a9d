#!/bin/bash
# Delays a replica from outside with pt-slave-delay, which stops and starts its SQL thread in turn.
#
#   SLAVE_DELAY_HOST, SLAVE_DELAY_PORT (3306), SLAVE_DELAY_USER (slave_delay), SLAVE_DELAY_PASSWORD   the replica
#   SLAVE_DELAY, SLAVE_DELAY_INTERVAL   how late it is to be, and how often that is looked after, in seconds (3600, 60)
#
# Arguments are given on to pt-slave-delay. On SIGTERM it lets the replica run.
set -euo pipefail

umask 077
printf '[client]\nhost=%s\nport=%s\nuser=%s\npassword="%s"\n' "${SLAVE_DELAY_HOST:?}" "${SLAVE_DELAY_PORT:-3306}" \
  "${SLAVE_DELAY_USER:-slave_delay}" "${SLAVE_DELAY_PASSWORD:-}" >/run/slave-delay.cnf
unset SLAVE_DELAY_PASSWORD

exec pt-slave-delay --no-version-check --delay "${SLAVE_DELAY:-3600}s" --interval "${SLAVE_DELAY_INTERVAL:-60}s" "$@" \
  "F=/run/slave-delay.cnf"
