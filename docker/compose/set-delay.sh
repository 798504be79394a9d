#!/bin/bash
# Delays the replica once the source's heartbeat has reached it: from then on the delay line fills, a second per second.
set -euo pipefail
export MYSQL_PWD=$MARIADB_ROOT_PASSWORD
replica() { mariadb --host=replica --user=root --skip-column-names --batch --execute="$1"; }

until [[ $(replica 'SELECT COUNT(*) FROM percona.heartbeat WHERE server_id IN (1, 2)' 2>/dev/null) == 2 ]]; do
  sleep 0.5
done
replica "STOP SLAVE; CHANGE MASTER TO MASTER_DELAY = ${DELAY:?}; START SLAVE"
echo "the replica is delayed by $DELAY s"
