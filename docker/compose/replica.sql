-- The replica follows the source from its first transaction on; set-delay.sh delays it.
CHANGE MASTER TO
  MASTER_HOST = 'source',
  MASTER_USER = 'repl',
  MASTER_PASSWORD = 'demo-repl',
  MASTER_CONNECT_RETRY = 1,
  MASTER_USE_GTID = slave_pos;
