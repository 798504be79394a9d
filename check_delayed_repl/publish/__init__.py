"""The fleet's verdicts, handed to whoever watches: Prometheus, Nagios Core, Icinga 2."""
