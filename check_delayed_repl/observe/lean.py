"""PyMySQL's import, without what a connection to a local server never uses.

PyMySQL imports ssl, traceback and cryptography wherever they are installed, which costs more than all the rest of a
sample. Here the first two wait until something in PyMySQL asks for one of their names; the last is only used to send a
password under a key that anybody may have offered, which is never done here.
"""

from __future__ import annotations

import sys
from _thread import allocate_lock
from importlib import import_module
from types import ModuleType

_LATER = ("ssl", "traceback")
_lock = allocate_lock()


class _Later(ModuleType):
    """Stands for a module until one of its names is needed."""

    def __getattr__(self, name: str) -> object:
        return getattr(import_module(self.__name__), name)


def load_pymysql() -> None:
    """Imports PyMySQL, once; does nothing where it is imported already."""
    with _lock:
        if "pymysql" in sys.modules:
            return
        standing_in: dict[str, ModuleType | None] = {name: _Later(name) for name in _LATER if name not in sys.modules}
        if "cryptography" not in sys.modules:
            standing_in["cryptography"] = None  # makes its import fail: what it is for there is never used
        sys.modules.update(standing_in)  # type: ignore[arg-type]
        try:
            import pymysql  # noqa: F401
        finally:
            for name, module in standing_in.items():
                if sys.modules.get(name) is module:
                    del sys.modules[name]
