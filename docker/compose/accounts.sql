-- The accounts of the demonstration, the same on the source and on the replica. Kept out of the binary log, so that
-- each server has its own from the start and the replica grows no transactions of its own.
SET SESSION sql_log_bin = 0;

CREATE USER 'repl'@'%' IDENTIFIED BY 'demo-repl';
GRANT REPLICATION SLAVE ON *.* TO 'repl'@'%';

-- As pt-heartbeat 3.2 makes it, in InnoDB: a MEMORY table would be empty after a restart and stop the replica.
CREATE DATABASE percona;
CREATE TABLE percona.heartbeat (
  ts varchar(26) NOT NULL,
  server_id int unsigned NOT NULL PRIMARY KEY,
  file varchar(255) DEFAULT NULL,
  position bigint unsigned DEFAULT NULL,
  relay_master_log_file varchar(255) DEFAULT NULL,
  exec_master_log_pos bigint unsigned DEFAULT NULL
) ENGINE = InnoDB;

-- pt-heartbeat: BINLOG ADMIN lets the replica's own heartbeat stay out of the binary log.
CREATE USER 'heartbeat'@'%' IDENTIFIED BY 'demo-heartbeat';
GRANT REPLICATION CLIENT, SLAVE MONITOR, BINLOG ADMIN ON *.* TO 'heartbeat'@'%';
GRANT CREATE, SELECT, INSERT, UPDATE, DELETE ON percona.* TO 'heartbeat'@'%';

-- The check and the worker.
CREATE USER 'monitor'@'%' IDENTIFIED BY 'demo-monitor';
GRANT SLAVE MONITOR ON *.* TO 'monitor'@'%';
GRANT SELECT ON percona.heartbeat TO 'monitor'@'%';
