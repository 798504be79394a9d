"""The one place where text that others wrote (a server, a job's writer, a file) is made fit to print."""

from __future__ import annotations

import re

MAX_LENGTH = 1000

# What Nagios keeps out of its macros, what ends the text and begins perfdata, and what a web page or a notification
# command's shell or printf would take for more than text.
_MARKUP = str.maketrans({"|": "/", "<": "(", ">": ")", "&": "+", "`": "'", '"': "'", "$": "_", "\\": "/"})
_SPACES = re.compile(r"\s+")


def clean(text: str, length: int = MAX_LENGTH) -> str:
    """`text` on one line, without control characters or markup, of at most `length` characters."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text[: 4 * length])
    text = _SPACES.sub(" ", text.translate(_MARKUP)).strip()
    return text if len(text) <= length else text[: length - 3] + "..."
