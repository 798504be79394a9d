"""MySQL's option files, read as the servers' own clients read them, but saying so where something is wrong.

The clients silently pass over a file that is not there; here every file that cannot be read as it stands is an error
of one line. Values may be secrets: no error ever quotes one.
"""

from __future__ import annotations

import os
import re
import stat

MAX_BYTES = 1 << 20
MAX_DEPTH = 10
"""How deep `!include` may nest, as with the servers' own clients."""

_BLANKS = " \t\n\v\f\r"
"""What the servers' own clients take for blanks: other spaces belong to the value."""
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "s": " ", '"': '"', "'": "'", "\\": "\\"}
# Quotes that are never closed go on to the end.
_BEFORE_COMMENT = r"""(?:[^#'"]|'(?:\\.|[^'\\]|\\$)*'?|"(?:\\.|[^"\\]|\\$)*"?)*"""


class OptionFileError(Exception):
    """An option file that cannot be read or understood. The message is one line and names the file."""


def read_options(path: str, groups: tuple[str, ...]) -> dict[str, str | None] | None:
    """The options of these groups of a file and of all that it includes; later ones win, whatever their group.

    Names are as in the file, but with `-` for `_`; an option without `=` has None. Returns None where there is no such
    group. Raises OptionFileError.
    """
    found: dict[str, str | None] = {}
    return found if _read(path, groups, found, 0) else None


def _read(path: str, groups: tuple[str, ...], found: dict[str, str | None], depth: int) -> bool:
    """Adds the options of the groups to `found`; tells whether any of them was there at all."""
    if depth > MAX_DEPTH:
        raise OptionFileError(f"{path}: !include is nested more than {MAX_DEPTH} deep")
    current: str | None = None
    there = False
    for number, raw in enumerate(_lines(path), 1):
        line = raw.strip(_BLANKS)
        if not line or line[0] in "#;":
            continue
        if line[0] == "!":
            for included in _included(path, number, line):
                there |= _read(included, groups, found, depth + 1)
        elif line[0] == "[":
            end = line.find("]")
            if end < 0:
                raise OptionFileError(f"{path}: line {number}: a group without its closing bracket")
            current = line[1:end].rstrip(_BLANKS)
            there |= current in groups
        elif current is None:
            raise OptionFileError(f"{path}: line {number}: an option before the first [group]")
        elif current in groups:
            name, value = _option(line)
            found[name.replace("_", "-")] = value
    return there


def _lines(path: str) -> list[str]:
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for a writer, maybe for ever.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            mode = os.fstat(handle).st_mode
            if not stat.S_ISREG(mode) and not os.path.samefile(path, os.devnull):
                raise OptionFileError(f"{path}: the option file is no regular file")
            if stat.S_ISREG(mode) and mode & stat.S_IWOTH:
                raise OptionFileError(f"{path}: everybody may write to the option file: chmod o-w")
            with open(handle, "rb", closefd=False) as file:
                data = file.read(MAX_BYTES + 1)
        finally:
            os.close(handle)
    except OSError as error:
        raise OptionFileError(f"{path}: cannot read the option file: {error.strerror}") from None
    except ValueError:
        raise OptionFileError(f"{path!r}: not the name of an option file") from None
    if len(data) > MAX_BYTES:
        raise OptionFileError(f"{path}: larger than {MAX_BYTES} bytes: this is no option file")
    if b"\0" in data:
        raise OptionFileError(f"{path}: holds binary data: this is no option file")
    # Bytes that are no UTF-8 survive the way to the server: a password may be in any encoding.
    return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape").split("\n")


def _included(path: str, number: int, line: str) -> list[str]:
    """The files that an `!include` or `!includedir` line stands for; relative names count from this file's folder."""
    keyword, _, name = line[1:].strip(_BLANKS).replace("\t", " ").partition(" ")
    name = name.strip(_BLANKS)
    if keyword not in ("include", "includedir") or not name:
        raise OptionFileError(f"{path}: line {number}: neither !include FILE nor !includedir FOLDER")
    name = os.path.join(os.path.dirname(path), name)
    if keyword == "include":
        return [name]
    try:
        return [os.path.join(name, entry) for entry in sorted(os.listdir(name)) if entry.endswith(".cnf")]
    except OSError as error:
        raise OptionFileError(f"{path}: line {number}: cannot read {name}: {error.strerror}") from None


def _option(line: str) -> tuple[str, str | None]:
    """Name and value of a line; what stands in quotes keeps its `#`."""
    before_comment = re.match(_BEFORE_COMMENT, line)
    name, equals, value = (before_comment[0] if before_comment else line).partition("=")
    value = value.strip(_BLANKS)
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        value = value[1:-1]
    # An unknown escape stays as it is.
    value = re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[0]), value)
    return name.rstrip(_BLANKS), value if equals else None
