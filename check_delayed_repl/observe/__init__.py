"""Everything that talks to a server under watch, and nothing that decides."""
