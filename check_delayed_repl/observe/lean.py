"""PyMySQL's import, without what a connection to a local server never uses. Import this before PyMySQL.

PyMySQL imports ssl, traceback and cryptography wherever they are installed, which costs more than all the rest of a
sample. Here the first two wait until something in PyMySQL asks for one of their names; the last is only used to send a
password under a key that anybody may have offered, which is never done here.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType


class _Later(ModuleType):
    """Stands for a module until one of its names is needed."""

    def __getattr__(self, name: str) -> object:
        return getattr(import_module(self.__name__), name)


# None makes an import fail.
_instead = {"ssl": _Later("ssl"), "traceback": _Later("traceback"), "cryptography": None}
_instead = {name: module for name, module in _instead.items() if name not in sys.modules}
sys.modules.update(_instead)  # type: ignore[arg-type]
try:
    import pymysql  # noqa: F401
finally:
    for _name, _module in _instead.items():
        if sys.modules.get(_name) is _module:
            del sys.modules[_name]
