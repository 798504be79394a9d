"""MySQL's option files, read as the servers' own clients read them, but saying so where something is wrong.

The clients silently pass over a file that is not there; here every file that cannot be read as it stands is an error
of one line. Values may be secrets: no error ever quotes one.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress

from check_delayed_repl.words import pasted

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
    lines = [line for group, line, _ in _lines(path) if group in groups]
    options = (_option(line) for line in lines if line)
    return {name.replace("_", "-"): value for name, value in options} if lines else None


def shown_to_all(path: str) -> str:
    """What is said of a file with a password that everybody may read."""
    return f"{path}: has a password, and everybody may read it: chmod 640 {pasted(path)}"


def exposed(path: str) -> str:
    """What is wrong with an option file, or one that it includes, that shows a password to everybody; else nothing."""
    with suppress(OptionFileError):  # what is wrong with it is said where it is used
        for _, line, shown in _lines(path):
            if shown and re.match(r"(loose[-_])?password\s*=", line):
                return shown_to_all(shown)
    return ""


def read_file(path: str, max_bytes: int) -> tuple[bytes, os.stat_result]:
    """What a regular file (or /dev/null) holds, and whose it is. Raises OSError where it is none or too large."""
    # Without O_NONBLOCK, opening a named pipe would wait for a writer, maybe for ever.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) and not os.path.samefile(path, os.devnull):
            raise OSError(errno.EINVAL, "it is not a file")
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {max_bytes >> 20} MiB")
    return data, found


def _lines(path: str, depth: int = 0) -> Iterator[tuple[str, str, str]]:
    """The options of a file and of all that it includes: each one's group, its line, and the file's path where
    everybody may read it. A group begins with an empty line. Raises OptionFileError.
    """
    if depth > MAX_DEPTH:
        raise OptionFileError(f"{path}: !include is nested more than {MAX_DEPTH} deep")
    try:
        data, found = read_file(path, MAX_BYTES)
    except OSError as error:
        raise OptionFileError(f"{path}: cannot read the option file: {error.strerror}") from None
    except ValueError:
        raise OptionFileError(f"{path!r}: not the name of an option file") from None
    if stat.S_ISREG(found.st_mode) and found.st_mode & stat.S_IWOTH:
        raise OptionFileError(f"{path}: everybody may write to the option file: chmod o-w")
    if b"\0" in data:
        raise OptionFileError(f"{path}: holds binary data: this is no option file")
    shown = path if found.st_mode & stat.S_IROTH else ""
    group: str | None = None
    # Bytes that are no UTF-8 survive the way to the server: a password may be in any encoding.
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip(_BLANKS)
        if not line or line[0] in "#;":
            continue
        if line[0] == "!":
            for included in _included(path, number, line):
                yield from _lines(included, depth + 1)
        elif line[0] == "[":
            end = line.find("]")
            if end < 0:
                raise OptionFileError(f"{path}: line {number}: a group without its closing bracket")
            group = line[1:end].rstrip(_BLANKS)
            yield group, "", shown
        elif group is None:
            raise OptionFileError(f"{path}: line {number}: an option before the first [group]")
        else:
            yield group, line, shown


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
