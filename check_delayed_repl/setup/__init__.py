"""The way in: SQL for least-privilege accounts, and the folder that `delayed-repl init` writes. Changes no server."""
