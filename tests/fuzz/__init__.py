"""What strangers send, made up and mutilated: see `python -m tests.fuzz --help`."""
