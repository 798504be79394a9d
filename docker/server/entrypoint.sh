#!/bin/bash
# Starts a MySQL or MariaDB server as the official images do.
#
# On an empty data folder it makes the system tables, the accounts and the database that these variables ask for (on
# MariaDB each may be spelt MARIADB_… too; each may be NAME_FILE, the path of a file that holds the value):
#
#   MYSQL_ROOT_PASSWORD, MYSQL_ALLOW_EMPTY_PASSWORD or MYSQL_RANDOM_ROOT_PASSWORD   one of them is required
#   MYSQL_ROOT_HOST      where root may come from beside localhost (default %)
#   MYSQL_DATABASE       a database to make
#   MYSQL_USER, MYSQL_PASSWORD   an account to make, with all rights on MYSQL_DATABASE
#   MYSQL_INITDB_SKIP_TZINFO     do not fill the time zone tables
#
# Then it runs /docker-entrypoint-initdb.d/* (.sh, .sql, .sql.gz) in order against a server that no network reaches, and
# at last starts the server itself with the arguments given.
set -euo pipefail
shopt -s nullglob

# An empty data folder with its system tables, where the image has one. Some options decide how these are made.
pristine=/usr/local/share/mysql-pristine

family=${SERVER_FAMILY:?}
case $family in
  mysql) daemon=mysqld client=mysql ;;
  mariadb) daemon=mariadbd client=mariadb ;;
  *) echo "[Entrypoint] unknown SERVER_FAMILY $family" >&2; exit 1 ;;
esac

note() { echo "[Entrypoint] $*" >&2; }
fail() { note "ERROR: $*"; exit 1; }

# The value of a setting by the official images' names: SETTING ROOT_PASSWORD reads MARIADB_ROOT_PASSWORD (MariaDB only),
# then MYSQL_ROOT_PASSWORD, each also as …_FILE.
setting() {
  local prefix name file
  local prefixes=(MYSQL)
  [[ $family == mariadb ]] && prefixes=(MARIADB MYSQL)
  for prefix in "${prefixes[@]}"; do
    name=${prefix}_$1 file=${prefix}_$1_FILE
    [[ -n ${!name:-} && -n ${!file:-} ]] && fail "$name and $file are both set"
    if [[ -n ${!name:-} ]]; then
      printf '%s' "${!name}"
      return
    elif [[ -n ${!file:-} ]]; then
      cat "${!file}"
      return
    fi
  done
  printf '%s' "${2:-}"
}

# A text as an SQL string literal.
quoted() {
  local text=${1//\\/\\\\}
  printf "'%s'" "${text//\'/\\\'}"
}

# A name as an SQL identifier.
named() { printf '`%s`' "${1//\`/\`\`}"; }

# The client as root on the private socket. The password goes by environment, so no process list shows it.
sql() { MYSQL_PWD=${root_now:-} "$client" --protocol=socket -uroot -hlocalhost --socket="$socket" "$@"; }

# Names that the official images' init scripts call.
docker_process_sql() { sql "$@"; }

initialise() {
  local root_password allow_empty random root_host database user password
  root_password=$(setting ROOT_PASSWORD)
  allow_empty=$(setting ALLOW_EMPTY_PASSWORD "$(setting ALLOW_EMPTY_ROOT_PASSWORD)")
  random=$(setting RANDOM_ROOT_PASSWORD)
  root_host=$(setting ROOT_HOST %)
  database=$(setting DATABASE)
  user=$(setting USER)
  password=$(setting PASSWORD)
  [[ -n $root_password || -n $allow_empty || -n $random ]] ||
    fail "the data folder is empty and none of MYSQL_ROOT_PASSWORD, MYSQL_ALLOW_EMPTY_PASSWORD and" \
      "MYSQL_RANDOM_ROOT_PASSWORD is set"
  [[ $user != root ]] || fail "MYSQL_USER cannot be root: root is made anyway, with MYSQL_ROOT_PASSWORD"
  [[ -z $user || -n $password ]] || fail "MYSQL_USER is set and MYSQL_PASSWORD is not"
  if [[ -z $root_password && -n $random ]]; then
    root_password=$(openssl rand -base64 24)
    note "GENERATED ROOT PASSWORD: $root_password"
  fi

  note "making the data folder"
  if [[ $family == mysql && -d $pristine && "$*" != *innodb?page?size* && "$*" != *innodb?data* &&
    "$*" != *innodb?undo* && "$*" != *lower?case?table* ]]; then
    cp -a "$pristine/." "$datadir/"
  elif [[ $family == mysql ]]; then
    "$@" --initialize-insecure
  else
    mariadb-install-db --datadir="$datadir" --user=mysql --skip-test-db --auth-root-authentication-method=normal \
      --skip-log-bin --cross-bootstrap >/dev/null
  fi

  socket=/run/mysqld/init.sock root_now=
  if [[ $family == mysql ]]; then
    "$@" --skip-networking --loose-skip-mysqlx --loose-skip-replica-start --socket="$socket" &
  else
    "$@" --skip-networking --skip-slave-start --socket="$socket" --loose-wsrep-on=OFF &
  fi
  local pid=$! i
  for ((i = 0; i < 600; i++)); do
    sql -e 'SELECT 1' >/dev/null 2>&1 && break
    kill -0 "$pid" 2>/dev/null || fail "the server did not start"
    sleep 0.1
  done
  ((i < 600)) || fail "the server did not answer within a minute"

  if [[ -z $(setting INITDB_SKIP_TZINFO) ]]; then
    if [[ $family == mysql ]] && command -v mysql_tzinfo_to_sql >/dev/null; then
      mysql_tzinfo_to_sql /usr/share/zoneinfo 2>/dev/null | { echo 'SET sql_log_bin=0;'; cat; } | sql mysql
    elif [[ $family == mariadb ]] && command -v mariadb-tzinfo-to-sql >/dev/null; then
      mariadb-tzinfo-to-sql --skip-write-binlog /usr/share/zoneinfo 2>/dev/null | sql mysql
    fi
  fi

  local set_password="ALTER USER 'root'@'localhost' IDENTIFIED BY $(quoted "$root_password")"
  if [[ $(sql -N -e 'SELECT VERSION()') == 5.6.* ]]; then
    set_password="SET PASSWORD FOR 'root'@'localhost' = PASSWORD($(quoted "$root_password"))"
  fi

  # None of this is for replicas: each server makes its own accounts.
  {
    echo "SET @@SESSION.sql_log_bin = 0;"
    if [[ -n $root_host && $root_host != localhost ]]; then
      echo "CREATE USER 'root'@$(quoted "$root_host") IDENTIFIED BY $(quoted "$root_password");"
      echo "GRANT ALL ON *.* TO 'root'@$(quoted "$root_host") WITH GRANT OPTION;"
    fi
    [[ $family == mariadb ]] && echo "DELETE FROM mysql.global_priv WHERE user = '' OR (user = 'root' AND host NOT IN
      ('localhost', $(quoted "$root_host")));"
    echo "FLUSH PRIVILEGES;"
    echo "$set_password;"
  } | sql mysql
  root_now=$root_password
  {
    [[ -z $database ]] || echo "CREATE DATABASE IF NOT EXISTS $(named "$database");"
    if [[ -n $user ]]; then
      echo "CREATE USER $(quoted "$user")@'%' IDENTIFIED BY $(quoted "$password");"
      [[ -z $database ]] || echo "GRANT ALL ON $(named "${database//_/\\_}").* TO $(quoted "$user")@'%';"
    fi
  } | sql mysql

  local file
  for file in /docker-entrypoint-initdb.d/*; do
    case $file in
      *.sh)
        note "running $file"
        if [[ -x $file ]]; then "$file"; else source "$file"; fi
        ;;
      *.sql) note "running $file"; sql ${database:+"$database"} <"$file" ;;
      *.sql.gz) note "running $file"; gunzip -c "$file" | sql ${database:+"$database"} ;;
      *) note "ignoring $file" ;;
    esac
  done

  kill "$pid"
  wait "$pid" || fail "the server did not stop cleanly after its set-up"
  note "set-up is done, ready for start up"
}

[[ ${1:-} != -* && $# -gt 0 ]] || set -- "$daemon" "$@"

if [[ $1 == mysqld || $1 == mariadbd ]]; then
  [[ $1 == mysqld && $family == mariadb ]] && set -- "$daemon" "${@:2}"
  for argument in "$@"; do
    case $argument in
      -'?' | --help | -V | --version | --print-defaults | --validate-config) exec "$@" ;;
    esac
  done
  datadir=$("$@" --verbose --help 2>/dev/null | awk '$1 == "datadir" { print $2; exit }' || true)
  datadir=${datadir:-/var/lib/mysql}
  if [[ $EUID -eq 0 ]]; then
    mkdir -p "$datadir"
    find "$datadir" /run/mysqld \! -user mysql -exec chown mysql: '{}' +
    exec setpriv --reuid=mysql --regid=mysql --init-groups "$0" "$@"
  fi
  [[ -d $datadir/mysql ]] || initialise "$@"
fi
exec "$@"
