# Turns the replica's status into the statements that set its delay and keep what waits in its relay log. Where the
# status names no place in it, replication goes on as it was.
$$1 == "Relay_Log_File:" { file = $$2 }
$$1 == "Relay_Log_Pos:" { position = $$2 }
END {
    if (file && position) print "$change;"
    else print "no place in the relay log: the delay is not set" > "/dev/stderr"
    print "$start;"
}
