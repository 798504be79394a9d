"""What a check and a worker cost, measured beside other checks on real servers: tests/bench/run."""
