"""The commands of `delayed-repl`, one a file."""
