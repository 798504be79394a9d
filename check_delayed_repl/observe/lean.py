"""PyMySQL's import, without what a connection to a local server never uses. Import this before PyMySQL.

PyMySQL imports ssl, traceback, configparser and cryptography wherever they are installed, and asks who is logged in;
hashlib loads OpenSSL. All this costs more than the rest of a sample. Here the first two wait until something in PyMySQL
asks for one of their names, and Python's own functions hash passwords. The others are never used: option files are read
elsewhere, a user is always given, and no password is sent under a key that anybody may have offered.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType


class _Later(ModuleType):
    """Stands for a module until one of its names is needed that it has not been given."""

    def __init__(self, name: str, **given: object) -> None:
        super().__init__(name)
        vars(self).update(given)

    def __getattr__(self, name: str) -> object:
        return getattr(import_module(self.__name__), name)


# None makes an import fail.
_instead: dict[str, ModuleType | None] = {name: _Later(name) for name in ("ssl", "traceback")}
_instead |= {"configparser": _Later("configparser", RawConfigParser=object), "cryptography": None, "getpass": None}
try:
    _sha1 = import_module("_sha1").sha1
    _sha256 = import_module("_sha256" if sys.version_info < (3, 12) else "_sha2").sha256
    # PyMySQL makes nothing but SHA-1 by name.
    _instead["hashlib"] = _Later("hashlib", new=lambda _, *data: _sha1(*data), sha256=_sha256)
except ImportError:
    pass  # a Python may be built to leave it all to OpenSSL
_instead = {name: module for name, module in _instead.items() if name not in sys.modules}
sys.modules.update(_instead)  # type: ignore[arg-type]
try:
    import pymysql  # noqa: F401
finally:
    for _name, _module in _instead.items():
        if sys.modules.get(_name) is _module:
            del sys.modules[_name]
