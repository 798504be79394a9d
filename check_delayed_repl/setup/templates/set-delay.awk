# Turns the replica's status into the statements that set its delay. What waits in the relay log is kept by naming the
# place where it goes on. That leaves a channel by GTID with file and position: so not where nothing waits.
# Where the status names no place, replication goes on as it was.
{ value[$$1] = $$2 }
END {
    file = value["Relay_Log_File:"]; position = value["Relay_Log_Pos:"]
    fetched = value["Master_Log_File:"] value["Read_Master_Log_Pos:"]
    applied = value["Relay_Master_Log_File:"] value["Exec_Master_Log_Pos:"]
    gtid = value["Using_Gtid:"] ~ /Pos/ || value["Auto_Position:"] == 1
    if (!file || !position) print "no place in the relay log: the delay is not set" > "/dev/stderr"
    else if (gtid && fetched == applied) print "$plain;"
    else print "$change;"
    print "$start;"
}
