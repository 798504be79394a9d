"""What the check's modules need of typing, without importing it: that would be a sixth of a check's own CPU time.

`typing.NamedTuple` looks into every annotation of every field; here they are only there to be read, by people and by
type checkers. Modules that use it begin with `from __future__ import annotations`, and put whatever else they need of
typing under `if TYPE_CHECKING`.
"""

from __future__ import annotations

TYPE_CHECKING = False
"""Type checkers take this name for true."""

if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:
    from collections import namedtuple

    class _Fields(type):
        """Turns a class body of annotated fields into a named tuple with the body's methods."""

        def __new__(cls, name, bases, body):
            if not bases:
                return super().__new__(cls, name, bases, body)
            fields = body.pop("__annotations__", {})
            defaults = [body.pop(field) for field in fields if field in body]
            made = namedtuple(name, fields, defaults=defaults, module=body.pop("__module__"))  # noqa: PYI024
            made.__annotations__ = fields
            for key, value in body.items():
                setattr(made, key, value)
            return made

    class NamedTuple(metaclass=_Fields):
        """Base of plain data, used as `typing.NamedTuple` is."""
