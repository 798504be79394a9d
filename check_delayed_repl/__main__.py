"""The program `check_delayed_repl`, and `python -m check_delayed_repl`: the plugin, without a tenth of its start.

A process that lives for some milliseconds leaves nothing to collect, and argparse looks at every start for translations
of its words, which nobody has.
"""

from __future__ import annotations

import gc
import sys
from types import ModuleType

gc.disable()
_english = ModuleType("gettext")
_english.__dict__.update(gettext=str, ngettext=lambda one, many, count: one if count == 1 else many)
if sys.modules.setdefault("gettext", _english) is _english:
    import argparse  # noqa: F401

    del sys.modules["gettext"]

from check_delayed_repl.plugin import main  # noqa: E402

if __name__ == "__main__":
    main()
