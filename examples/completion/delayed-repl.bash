# bash completion for delayed-repl. Written by examples/generate.py from the commands' parsers: change those.
#
# Put it into /usr/share/bash-completion/completions under the name of its command, or source it.

_delayed_repl() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev='' path=delayed-repl word i
  ((COMP_CWORD > 0)) && prev=${COMP_WORDS[COMP_CWORD - 1]}
  COMPREPLY=()
  # Of --option=value bash makes three words.
  if [[ $cur == '=' ]]; then
    cur=''
  elif [[ $prev == '=' ]]; then
    prev=${COMP_WORDS[COMP_CWORD - 2]}
  fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    case "$path $word" in
      'delayed-repl worker') path='delayed-repl worker' ;;
      'delayed-repl job') path='delayed-repl job' ;;
      'delayed-repl job start') path='delayed-repl job start' ;;
      'delayed-repl job finish') path='delayed-repl job finish' ;;
      'delayed-repl job void') path='delayed-repl job void' ;;
      'delayed-repl job run') path='delayed-repl job run' ;;
      'delayed-repl job list') path='delayed-repl job list' ;;
      'delayed-repl history') path='delayed-repl history' ;;
      'delayed-repl history export') path='delayed-repl history export' ;;
      'delayed-repl history import') path='delayed-repl history import' ;;
      'delayed-repl history prune') path='delayed-repl history prune' ;;
      'delayed-repl backtest') path='delayed-repl backtest' ;;
      'delayed-repl diagnose') path='delayed-repl diagnose' ;;
      'delayed-repl watch') path='delayed-repl watch' ;;
      'delayed-repl grants') path='delayed-repl grants' ;;
    esac
    if [[ $word == -- && $path == *' run' ]]; then
      # What comes after it is a command of its own.
      if ((i == COMP_CWORD - 1)); then
        mapfile -t COMPREPLY < <(compgen -c -- "$cur")
      else
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      fi
      return
    fi
  done
  case $path:$prev in
    'delayed-repl worker:-H' | 'delayed-repl worker:--host')
      return
      ;;
    'delayed-repl worker:-P' | 'delayed-repl worker:--port')
      return
      ;;
    'delayed-repl worker:-S' | 'delayed-repl worker:--socket')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl worker:-u' | 'delayed-repl worker:--user')
      return
      ;;
    'delayed-repl worker:-p' | 'delayed-repl worker:--password')
      return
      ;;
    'delayed-repl worker:--defaults-file')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl worker:--defaults-group')
      return
      ;;
    'delayed-repl worker:--ssl-mode')
      mapfile -t COMPREPLY < <(compgen -W 'disabled preferred required verify-ca verify-identity' -- "$cur")
      return
      ;;
    'delayed-repl worker:--ssl-ca')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl worker:--ssl-cert')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl worker:--ssl-key')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl worker:--channel')
      return
      ;;
    'delayed-repl worker:-t' | 'delayed-repl worker:--timeout')
      return
      ;;
    'delayed-repl worker:--replica')
      return
      ;;
    'delayed-repl worker:--heartbeat-table')
      return
      ;;
    'delayed-repl worker:--master-server-id' | 'delayed-repl worker:--source-server-id')
      return
      ;;
    'delayed-repl worker:--heartbeat-timezone')
      return
      ;;
    'delayed-repl worker:--delay-mode')
      mapfile -t COMPREPLY < <(compgen -W 'auto native external' -- "$cur")
      return
      ;;
    'delayed-repl worker:--config')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl worker:--history')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl worker:--interval')
      return
      ;;
    'delayed-repl worker:--keep')
      return
      ;;
    'delayed-repl worker:--count')
      return
      ;;
    'delayed-repl job start:--config')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl job start:--history')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl job start:--replica')
      return
      ;;
    'delayed-repl job start:--kind')
      mapfile -t COMPREPLY < <(compgen -W 'backup deshard' -- "$cur")
      return
      ;;
    'delayed-repl job start:-t' | 'delayed-repl job start:--timeout')
      return
      ;;
    'delayed-repl job finish:--config')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl job finish:--history')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl job finish:--replica')
      return
      ;;
    'delayed-repl job finish:--kind')
      mapfile -t COMPREPLY < <(compgen -W 'backup deshard' -- "$cur")
      return
      ;;
    'delayed-repl job finish:-t' | 'delayed-repl job finish:--timeout')
      return
      ;;
    'delayed-repl job void:--config')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl job void:--history')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl job void:--replica')
      return
      ;;
    'delayed-repl job void:--kind')
      mapfile -t COMPREPLY < <(compgen -W 'backup deshard' -- "$cur")
      return
      ;;
    'delayed-repl job void:-t' | 'delayed-repl job void:--timeout')
      return
      ;;
    'delayed-repl job run:--config')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl job run:--history')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl job run:--replica')
      return
      ;;
    'delayed-repl job run:--kind')
      mapfile -t COMPREPLY < <(compgen -W 'backup deshard' -- "$cur")
      return
      ;;
    'delayed-repl job run:-t' | 'delayed-repl job run:--timeout')
      return
      ;;
    'delayed-repl job list:--config')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl job list:--history')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl job list:--replica')
      return
      ;;
    'delayed-repl job list:--kind')
      mapfile -t COMPREPLY < <(compgen -W 'backup deshard' -- "$cur")
      return
      ;;
    'delayed-repl job list:-t' | 'delayed-repl job list:--timeout')
      return
      ;;
    'delayed-repl job list:--output')
      mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$cur")
      return
      ;;
    'delayed-repl history export:--config')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl history export:--history')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl history export:-t' | 'delayed-repl history export:--timeout')
      return
      ;;
    'delayed-repl history export:--replica')
      return
      ;;
    'delayed-repl history export:--since')
      return
      ;;
    'delayed-repl history export:--until')
      return
      ;;
    'delayed-repl history export:-o' | 'delayed-repl history export:--output-file')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl history import:--config')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl history import:--history')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl history import:-t' | 'delayed-repl history import:--timeout')
      return
      ;;
    'delayed-repl history import:--replica')
      return
      ;;
    'delayed-repl history prune:--config')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl history prune:--history')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl history prune:-t' | 'delayed-repl history prune:--timeout')
      return
      ;;
    'delayed-repl history prune:--replica')
      return
      ;;
    'delayed-repl history prune:--keep')
      return
      ;;
    'delayed-repl backtest:--history')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl backtest:--replica')
      return
      ;;
    'delayed-repl backtest:-t' | 'delayed-repl backtest:--timeout')
      return
      ;;
    'delayed-repl backtest:--config')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl backtest:--compare')
      return
      ;;
    'delayed-repl backtest:--output')
      mapfile -t COMPREPLY < <(compgen -W 'table json' -- "$cur")
      return
      ;;
    'delayed-repl backtest:--delay')
      return
      ;;
    'delayed-repl backtest:--min-delay-time')
      return
      ;;
    'delayed-repl backtest:--max-delay-time')
      return
      ;;
    'delayed-repl backtest:--max-seconds-behind')
      return
      ;;
    'delayed-repl backtest:--max-relay-behind')
      return
      ;;
    'delayed-repl backtest:--max-master-behind' | 'delayed-repl backtest:--max-source-behind')
      return
      ;;
    'delayed-repl backtest:--max-last-seen')
      return
      ;;
    'delayed-repl backtest:--max-backup-behind')
      return
      ;;
    'delayed-repl backtest:--max-deshard-behind')
      return
      ;;
    'delayed-repl backtest:--max-recovery-time')
      return
      ;;
    'delayed-repl backtest:--max-trend-time')
      return
      ;;
    'delayed-repl backtest:--max-job-behind')
      return
      ;;
    'delayed-repl backtest:--job-stops-server')
      mapfile -t COMPREPLY < <(compgen -W 'backup deshard' -- "$cur")
      return
      ;;
    'delayed-repl backtest:--allow-filter')
      return
      ;;
    'delayed-repl backtest:--window')
      return
      ;;
    'delayed-repl backtest:--fit')
      mapfile -t COMPREPLY < <(compgen -W 'segment window' -- "$cur")
      return
      ;;
    'delayed-repl backtest:--min-recovery-slope')
      return
      ;;
    'delayed-repl backtest:--min-correlation')
      return
      ;;
    'delayed-repl backtest:--delay-mode')
      mapfile -t COMPREPLY < <(compgen -W 'auto native external' -- "$cur")
      return
      ;;
    'delayed-repl diagnose:--config')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl diagnose:-H' | 'delayed-repl diagnose:--host')
      return
      ;;
    'delayed-repl diagnose:-P' | 'delayed-repl diagnose:--port')
      return
      ;;
    'delayed-repl diagnose:-S' | 'delayed-repl diagnose:--socket')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl diagnose:-u' | 'delayed-repl diagnose:--user')
      return
      ;;
    'delayed-repl diagnose:-p' | 'delayed-repl diagnose:--password')
      return
      ;;
    'delayed-repl diagnose:--defaults-file')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl diagnose:--defaults-group')
      return
      ;;
    'delayed-repl diagnose:--ssl-mode')
      mapfile -t COMPREPLY < <(compgen -W 'disabled preferred required verify-ca verify-identity' -- "$cur")
      return
      ;;
    'delayed-repl diagnose:--ssl-ca')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl diagnose:--ssl-cert')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl diagnose:--ssl-key')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl diagnose:--channel')
      return
      ;;
    'delayed-repl diagnose:-t' | 'delayed-repl diagnose:--timeout')
      return
      ;;
    'delayed-repl diagnose:--replica')
      return
      ;;
    'delayed-repl diagnose:--heartbeat-table')
      return
      ;;
    'delayed-repl diagnose:--master-server-id' | 'delayed-repl diagnose:--source-server-id')
      return
      ;;
    'delayed-repl diagnose:--heartbeat-timezone')
      return
      ;;
    'delayed-repl diagnose:--delay-mode')
      mapfile -t COMPREPLY < <(compgen -W 'auto native external' -- "$cur")
      return
      ;;
    'delayed-repl diagnose:--delay')
      return
      ;;
    'delayed-repl diagnose:--min-delay-time')
      return
      ;;
    'delayed-repl diagnose:--max-delay-time')
      return
      ;;
    'delayed-repl diagnose:--max-seconds-behind')
      return
      ;;
    'delayed-repl diagnose:--max-relay-behind')
      return
      ;;
    'delayed-repl diagnose:--max-master-behind' | 'delayed-repl diagnose:--max-source-behind')
      return
      ;;
    'delayed-repl diagnose:--max-last-seen')
      return
      ;;
    'delayed-repl diagnose:--max-backup-behind')
      return
      ;;
    'delayed-repl diagnose:--max-deshard-behind')
      return
      ;;
    'delayed-repl diagnose:--max-recovery-time')
      return
      ;;
    'delayed-repl diagnose:--max-trend-time')
      return
      ;;
    'delayed-repl diagnose:--max-job-behind')
      return
      ;;
    'delayed-repl diagnose:--job-stops-server')
      mapfile -t COMPREPLY < <(compgen -W 'backup deshard' -- "$cur")
      return
      ;;
    'delayed-repl diagnose:--allow-filter')
      return
      ;;
    'delayed-repl diagnose:--window')
      return
      ;;
    'delayed-repl diagnose:--fit')
      mapfile -t COMPREPLY < <(compgen -W 'segment window' -- "$cur")
      return
      ;;
    'delayed-repl diagnose:--min-recovery-slope')
      return
      ;;
    'delayed-repl diagnose:--min-correlation')
      return
      ;;
    'delayed-repl diagnose:--history')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl diagnose:--sampling')
      mapfile -t COMPREPLY < <(compgen -W 'inline worker' -- "$cur")
      return
      ;;
    'delayed-repl diagnose:--for')
      return
      ;;
    'delayed-repl diagnose:--interval')
      return
      ;;
    'delayed-repl diagnose:--since')
      return
      ;;
    'delayed-repl diagnose:--output')
      mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$cur")
      return
      ;;
    'delayed-repl diagnose:--plot')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl diagnose:--color')
      mapfile -t COMPREPLY < <(compgen -W 'auto always never' -- "$cur")
      return
      ;;
    'delayed-repl watch:--config')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl watch:-H' | 'delayed-repl watch:--host')
      return
      ;;
    'delayed-repl watch:-P' | 'delayed-repl watch:--port')
      return
      ;;
    'delayed-repl watch:-S' | 'delayed-repl watch:--socket')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl watch:-u' | 'delayed-repl watch:--user')
      return
      ;;
    'delayed-repl watch:-p' | 'delayed-repl watch:--password')
      return
      ;;
    'delayed-repl watch:--defaults-file')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl watch:--defaults-group')
      return
      ;;
    'delayed-repl watch:--ssl-mode')
      mapfile -t COMPREPLY < <(compgen -W 'disabled preferred required verify-ca verify-identity' -- "$cur")
      return
      ;;
    'delayed-repl watch:--ssl-ca')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl watch:--ssl-cert')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl watch:--ssl-key')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl watch:--channel')
      return
      ;;
    'delayed-repl watch:-t' | 'delayed-repl watch:--timeout')
      return
      ;;
    'delayed-repl watch:--replica')
      return
      ;;
    'delayed-repl watch:--heartbeat-table')
      return
      ;;
    'delayed-repl watch:--master-server-id' | 'delayed-repl watch:--source-server-id')
      return
      ;;
    'delayed-repl watch:--heartbeat-timezone')
      return
      ;;
    'delayed-repl watch:--delay-mode')
      mapfile -t COMPREPLY < <(compgen -W 'auto native external' -- "$cur")
      return
      ;;
    'delayed-repl watch:--delay')
      return
      ;;
    'delayed-repl watch:--min-delay-time')
      return
      ;;
    'delayed-repl watch:--max-delay-time')
      return
      ;;
    'delayed-repl watch:--max-seconds-behind')
      return
      ;;
    'delayed-repl watch:--max-relay-behind')
      return
      ;;
    'delayed-repl watch:--max-master-behind' | 'delayed-repl watch:--max-source-behind')
      return
      ;;
    'delayed-repl watch:--max-last-seen')
      return
      ;;
    'delayed-repl watch:--max-backup-behind')
      return
      ;;
    'delayed-repl watch:--max-deshard-behind')
      return
      ;;
    'delayed-repl watch:--max-recovery-time')
      return
      ;;
    'delayed-repl watch:--max-trend-time')
      return
      ;;
    'delayed-repl watch:--max-job-behind')
      return
      ;;
    'delayed-repl watch:--job-stops-server')
      mapfile -t COMPREPLY < <(compgen -W 'backup deshard' -- "$cur")
      return
      ;;
    'delayed-repl watch:--allow-filter')
      return
      ;;
    'delayed-repl watch:--window')
      return
      ;;
    'delayed-repl watch:--fit')
      mapfile -t COMPREPLY < <(compgen -W 'segment window' -- "$cur")
      return
      ;;
    'delayed-repl watch:--min-recovery-slope')
      return
      ;;
    'delayed-repl watch:--min-correlation')
      return
      ;;
    'delayed-repl watch:--history')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl watch:--sampling')
      mapfile -t COMPREPLY < <(compgen -W 'inline worker' -- "$cur")
      return
      ;;
    'delayed-repl watch:--interval')
      return
      ;;
    'delayed-repl watch:--count')
      return
      ;;
    'delayed-repl watch:--since')
      return
      ;;
    'delayed-repl watch:--color')
      mapfile -t COMPREPLY < <(compgen -W 'auto always never' -- "$cur")
      return
      ;;
    'delayed-repl grants:-H' | 'delayed-repl grants:--host')
      return
      ;;
    'delayed-repl grants:-P' | 'delayed-repl grants:--port')
      return
      ;;
    'delayed-repl grants:-S' | 'delayed-repl grants:--socket')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl grants:-u' | 'delayed-repl grants:--user')
      return
      ;;
    'delayed-repl grants:-p' | 'delayed-repl grants:--password')
      return
      ;;
    'delayed-repl grants:--defaults-file')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl grants:--defaults-group')
      return
      ;;
    'delayed-repl grants:--ssl-mode')
      mapfile -t COMPREPLY < <(compgen -W 'disabled preferred required verify-ca verify-identity' -- "$cur")
      return
      ;;
    'delayed-repl grants:--ssl-ca')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl grants:--ssl-cert')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl grants:--ssl-key')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl grants:--channel')
      return
      ;;
    'delayed-repl grants:-t' | 'delayed-repl grants:--timeout')
      return
      ;;
    'delayed-repl grants:--replica')
      return
      ;;
    'delayed-repl grants:--heartbeat-table')
      return
      ;;
    'delayed-repl grants:--master-server-id' | 'delayed-repl grants:--source-server-id')
      return
      ;;
    'delayed-repl grants:--heartbeat-timezone')
      return
      ;;
    'delayed-repl grants:--delay-mode')
      mapfile -t COMPREPLY < <(compgen -W 'auto native external' -- "$cur")
      return
      ;;
    'delayed-repl grants:--for')
      mapfile -t COMPREPLY < <(compgen -W 'check worker job' -- "$cur")
      return
      ;;
    'delayed-repl grants:--account-user')
      return
      ;;
    'delayed-repl grants:--account-host')
      return
      ;;
    'delayed-repl grants:--history')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'delayed-repl grants:--family')
      mapfile -t COMPREPLY < <(compgen -W 'mysql mariadb' -- "$cur")
      return
      ;;
    'delayed-repl grants:--server-version')
      return
      ;;
  esac
  case $path in
    'delayed-repl')
      mapfile -t COMPREPLY < <(compgen -W 'worker job history backtest diagnose watch grants --debug -h --help -V --version' -- "$cur")
      ;;
    'delayed-repl worker')
      mapfile -t COMPREPLY < <(compgen -W '-h --help -V --version -H --host -P --port -S --socket -u --user -p --password --defaults-file --defaults-group --ssl-mode --ssl-ca --ssl-cert --ssl-key --channel -t --timeout --replica --heartbeat-table --master-server-id --source-server-id --heartbeat-timezone --delay-mode --no-local-heartbeat --config --check --history --interval --keep --count' -- "$cur")
      ;;
    'delayed-repl job')
      mapfile -t COMPREPLY < <(compgen -W 'start finish void run list -h --help -V --version' -- "$cur")
      ;;
    'delayed-repl job start')
      mapfile -t COMPREPLY < <(compgen -W '-h --help -V --version --config --history --replica --kind -t --timeout' -- "$cur")
      ;;
    'delayed-repl job finish')
      mapfile -t COMPREPLY < <(compgen -W '-h --help -V --version --config --history --replica --kind -t --timeout' -- "$cur")
      ;;
    'delayed-repl job void')
      mapfile -t COMPREPLY < <(compgen -W '-h --help -V --version --config --history --replica --kind -t --timeout' -- "$cur")
      ;;
    'delayed-repl job run')
      mapfile -t COMPREPLY < <(compgen -W '-h --help -V --version --config --history --replica --kind -t --timeout' -- "$cur")
      ;;
    'delayed-repl job list')
      mapfile -t COMPREPLY < <(compgen -W '-h --help -V --version --config --history --replica --kind -t --timeout --output' -- "$cur")
      ;;
    'delayed-repl history')
      mapfile -t COMPREPLY < <(compgen -W 'export import prune -h --help -V --version' -- "$cur")
      ;;
    'delayed-repl history export')
      mapfile -t COMPREPLY < <(compgen -W '-h --help -V --version --config --history -t --timeout --replica --since --until -o --output-file' -- "$cur")
      ;;
    'delayed-repl history import')
      mapfile -t COMPREPLY < <(compgen -W '-h --help -V --version --config --history -t --timeout --replica' -- "$cur")
      ;;
    'delayed-repl history prune')
      mapfile -t COMPREPLY < <(compgen -W '-h --help -V --version --config --history -t --timeout --replica --keep --future' -- "$cur")
      ;;
    'delayed-repl backtest')
      mapfile -t COMPREPLY < <(compgen -W '-h --help -V --version --history --replica -t --timeout --config --every --compare --output --delay --min-delay-time --max-delay-time --max-seconds-behind --max-relay-behind --max-master-behind --max-source-behind --max-last-seen --max-backup-behind --max-deshard-behind --max-recovery-time --max-trend-time --max-job-behind --job-stops-server --allow-filter --window --fit --min-recovery-slope --min-correlation --delay-mode --no-local-heartbeat' -- "$cur")
      ;;
    'delayed-repl diagnose')
      mapfile -t COMPREPLY < <(compgen -W '-h --help -V --version --config -H --host -P --port -S --socket -u --user -p --password --defaults-file --defaults-group --ssl-mode --ssl-ca --ssl-cert --ssl-key --channel -t --timeout --replica --heartbeat-table --master-server-id --source-server-id --heartbeat-timezone --delay-mode --no-local-heartbeat --delay --min-delay-time --max-delay-time --max-seconds-behind --max-relay-behind --max-master-behind --max-source-behind --max-last-seen --max-backup-behind --max-deshard-behind --max-recovery-time --max-trend-time --max-job-behind --job-stops-server --allow-filter --window --fit --min-recovery-slope --min-correlation --history --sampling --no-look --for --interval --since --output --plot --color --ascii --exit-code' -- "$cur")
      ;;
    'delayed-repl watch')
      mapfile -t COMPREPLY < <(compgen -W '-h --help -V --version --config -H --host -P --port -S --socket -u --user -p --password --defaults-file --defaults-group --ssl-mode --ssl-ca --ssl-cert --ssl-key --channel -t --timeout --replica --heartbeat-table --master-server-id --source-server-id --heartbeat-timezone --delay-mode --no-local-heartbeat --delay --min-delay-time --max-delay-time --max-seconds-behind --max-relay-behind --max-master-behind --max-source-behind --max-last-seen --max-backup-behind --max-deshard-behind --max-recovery-time --max-trend-time --max-job-behind --job-stops-server --allow-filter --window --fit --min-recovery-slope --min-correlation --history --sampling --interval --count --since --color --ascii' -- "$cur")
      ;;
    'delayed-repl grants')
      mapfile -t COMPREPLY < <(compgen -W '-h --help -V --version -H --host -P --port -S --socket -u --user -p --password --defaults-file --defaults-group --ssl-mode --ssl-ca --ssl-cert --ssl-key --channel -t --timeout --replica --heartbeat-table --master-server-id --source-server-id --heartbeat-timezone --delay-mode --no-local-heartbeat --for --account-user --account-host --history --family --server-version' -- "$cur")
      ;;
  esac
}
complete -F _delayed_repl delayed-repl
