"""`python -m check_delayed_repl` is the plugin."""

from __future__ import annotations

from check_delayed_repl.plugin import main

if __name__ == "__main__":
    main()
