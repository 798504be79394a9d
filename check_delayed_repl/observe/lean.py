"""PyMySQL's import, without what a connection to a local server never uses.

PyMySQL imports ssl, traceback and cryptography wherever they are installed, which costs more than all the rest of a
look. Here they wait until something in PyMySQL asks for one of their names; nothing is taken away from other users of
PyMySQL in the same process.
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
        standing_in = {name: _Later(name) for name in _LATER if name not in sys.modules}
        sys.modules.update(standing_in)
        without_cryptography = "cryptography" not in sys.modules
        if without_cryptography:
            sys.modules["cryptography"] = None  # type: ignore[assignment]  # makes its import fail
        try:
            import pymysql._auth as auth
        finally:
            for name, module in standing_in.items():
                if sys.modules.get(name) is module:
                    del sys.modules[name]
            if without_cryptography:
                del sys.modules["cryptography"]
        if without_cryptography:
            auth.sha2_rsa_encrypt = _sha2_rsa_encrypt


def _sha2_rsa_encrypt(password: bytes, salt: bytes, public_key: bytes) -> bytes:
    """PyMySQL's own function of this name, with its import of cryptography done when it is needed.

    Raises RuntimeError where cryptography is not installed.
    """
    try:
        hashes = import_module("cryptography.hazmat.primitives.hashes")
        serialization = import_module("cryptography.hazmat.primitives.serialization")
        padding = import_module("cryptography.hazmat.primitives.asymmetric.padding")
    except ImportError:
        raise RuntimeError("the Python package cryptography is not installed") from None
    # The scheme of sha256_password and caching_sha2_password without TLS: password XOR salt, under the server's key.
    nonce = salt[:20]
    message = bytes(byte ^ nonce[place % len(nonce)] for place, byte in enumerate(password + b"\0"))
    key = serialization.load_pem_public_key(public_key)
    oaep = padding.OAEP(mgf=padding.MGF1(algorithm=hashes.SHA1()), algorithm=hashes.SHA1(), label=None)
    return bytes(key.encrypt(message, oaep))
