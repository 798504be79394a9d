# bash completion for check_delayed_repl. Written by examples/generate.py from the commands' parsers: change those.
#
# Put it into /usr/share/bash-completion/completions under the name of its command, or source it.

_check_delayed_repl() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev='' path=check_delayed_repl word i
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
    [[ $word != -- ]] || return
  done
  case $path:$prev in
    'check_delayed_repl:--config')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'check_delayed_repl:-H' | 'check_delayed_repl:--host')
      return
      ;;
    'check_delayed_repl:-P' | 'check_delayed_repl:--port')
      return
      ;;
    'check_delayed_repl:-S' | 'check_delayed_repl:--socket')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'check_delayed_repl:-u' | 'check_delayed_repl:--user')
      return
      ;;
    'check_delayed_repl:-p' | 'check_delayed_repl:--password')
      return
      ;;
    'check_delayed_repl:--defaults-file')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'check_delayed_repl:--defaults-group')
      return
      ;;
    'check_delayed_repl:--ssl-mode')
      mapfile -t COMPREPLY < <(compgen -W 'disabled preferred required verify-ca verify-identity' -- "$cur")
      return
      ;;
    'check_delayed_repl:--ssl-ca')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'check_delayed_repl:--ssl-cert')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'check_delayed_repl:--ssl-key')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'check_delayed_repl:--channel')
      return
      ;;
    'check_delayed_repl:-t' | 'check_delayed_repl:--timeout')
      return
      ;;
    'check_delayed_repl:--replica')
      return
      ;;
    'check_delayed_repl:--heartbeat-table')
      return
      ;;
    'check_delayed_repl:--master-server-id' | 'check_delayed_repl:--source-server-id')
      return
      ;;
    'check_delayed_repl:--heartbeat-timezone')
      return
      ;;
    'check_delayed_repl:--delay-mode')
      mapfile -t COMPREPLY < <(compgen -W 'auto native external' -- "$cur")
      return
      ;;
    'check_delayed_repl:--delay')
      return
      ;;
    'check_delayed_repl:--min-delay-time')
      return
      ;;
    'check_delayed_repl:--max-delay-time')
      return
      ;;
    'check_delayed_repl:--max-seconds-behind')
      return
      ;;
    'check_delayed_repl:--max-relay-behind')
      return
      ;;
    'check_delayed_repl:--max-master-behind' | 'check_delayed_repl:--max-source-behind')
      return
      ;;
    'check_delayed_repl:--max-last-seen')
      return
      ;;
    'check_delayed_repl:--max-backup-behind')
      return
      ;;
    'check_delayed_repl:--max-deshard-behind')
      return
      ;;
    'check_delayed_repl:--max-recovery-time')
      return
      ;;
    'check_delayed_repl:--max-trend-time')
      return
      ;;
    'check_delayed_repl:--max-job-behind')
      return
      ;;
    'check_delayed_repl:--job-stops-server')
      mapfile -t COMPREPLY < <(compgen -W 'backup deshard' -- "$cur")
      return
      ;;
    'check_delayed_repl:--allow-filter')
      return
      ;;
    'check_delayed_repl:--window')
      return
      ;;
    'check_delayed_repl:--fit')
      mapfile -t COMPREPLY < <(compgen -W 'segment window' -- "$cur")
      return
      ;;
    'check_delayed_repl:--min-recovery-slope')
      return
      ;;
    'check_delayed_repl:--min-correlation')
      return
      ;;
    'check_delayed_repl:--history')
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
    'check_delayed_repl:--sampling')
      mapfile -t COMPREPLY < <(compgen -W 'inline worker' -- "$cur")
      return
      ;;
    'check_delayed_repl:--keep')
      return
      ;;
    'check_delayed_repl:--output')
      mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$cur")
      return
      ;;
  esac
  case $path in
    'check_delayed_repl')
      mapfile -t COMPREPLY < <(compgen -W '--config -H --host -P --port -S --socket -u --user -p --password --defaults-file --defaults-group --ssl-mode --ssl-ca --ssl-cert --ssl-key --channel -t --timeout --replica --heartbeat-table --master-server-id --source-server-id --heartbeat-timezone --delay-mode --no-local-heartbeat --delay --min-delay-time --max-delay-time --max-seconds-behind --max-relay-behind --max-master-behind --max-source-behind --max-last-seen --max-backup-behind --max-deshard-behind --max-recovery-time --max-trend-time --max-job-behind --job-stops-server --allow-filter --window --fit --min-recovery-slope --min-correlation --history --sampling --keep --output -v --verbose -h --help -V --version' -- "$cur")
      ;;
  esac
}
complete -F _check_delayed_repl check_delayed_repl
