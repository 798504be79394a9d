"""Text: what others wrote made fit to print; numbers, times, spans and sizes in one form each.

On the check's start-up path: datetime is imported only where a moment is printed.
"""

from __future__ import annotations

import os
import re
from math import isfinite
from time import gmtime, strftime

from check_delayed_repl.light import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

MAX_LENGTH = 1000
MASK = "***"
"""Stands where a password was."""

# What Nagios keeps out of its macros, what ends the text and begins perfdata, and what a web page or a notification
# command's shell or printf would take for more than text.
_MARKUP = str.maketrans({"|": "/", "<": "(", ">": ")", "&": "+", "`": "'", '"': "'", "$": "_", "\\": "/"})
_SPACES = re.compile(r"\s+")


def clean(text: str, length: int = MAX_LENGTH) -> str:
    """`text` on one line, without passwords, control characters or markup, of at most `length` characters."""
    return one_line(text, length).translate(_MARKUP)


def one_line(text: str, length: int = MAX_LENGTH) -> str:
    """`text` on one line, without passwords or control characters, of at most `length` characters."""
    text = masked(text[: 4 * length])
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)
    text = _SPACES.sub(" ", text).strip()
    return text if len(text) <= length else text[: length - 3] + "..."


# A text with none of these has no password in it that could be told from other text. Nothing that a calm check prints
# may have one (deshard has "sha"): to compile the pattern costs a tenth of a check.
_HINTS = (
    *("identified", "pass", "pw", "secret", "token", "key", "auth", "credential", "crypt", "code", "md5"),
    *(f"sha{after}" for after in "(12/-# \t\n\v\f\r"),
    *"@*$",
)
# Between two words of SQL: blanks, comments, and the frame of comments that are executed.
_COMMENT = r"(?>/\*(?!!).*?\*/|(?:--|\#)[^\n]*\n)"
_GAP = rf"(?:[\s\x00-\x1f]|/\*!\d*|\*/|{_COMMENT})*+"
# A text in quotes, whichever way the statement itself is quoted; one that was cut off goes on to the end.
_QUOTED = r"""(?:
      (?P<escapes>\\+)(?P<mark>['"]).*?(?:(?<!\\)(?P=escapes)(?P=mark)|\Z)
    | ''(?=[^\s,;)'])(?:[^']|'{4}|'(?!'))*(?:'{2,3}|\Z)
    | ""(?=[^\s,;)"])(?:[^"]|"{4}|"(?!"))*(?:"{2,3}|\Z)
    | '(?:[^'\\]|\\.|'')*(?:'|\\?\Z)
    | "(?:[^"\\]|\\.|"")*(?:"|\\?\Z)
)"""
_SURE = r"(?:passw(?:or)?d|passphrase|auth(?:entication)?_string)"
# Names of other secrets, which need a sign of equality to be told from ordinary words; and any variable.
_NAME = r"(?:(?:pass|pwd?|secret|token|credentials?|auth|(?<!ssl.)key)_?\d*\b|(?<![\w@'\"`])@[\w.$]+)"
_EQUALS = r"(?::?=|[<>!]+=?>?)"
# Functions whose arguments are keys and passwords; and the values for a list of columns that has a password among them.
_CALL = rf"\b(?:\w*(?:en|de)(?:crypt|code)|md5|sha[12]?){_GAP}\("
_COLUMN = rf"[`\"']?\w{{0,60}}?(?:{_SURE}|pass|pwd?|secret|token|credentials?|_key)\d*[`\"']?\s*[,)]"
_LISTED = rf"{_COLUMN}.{{0,1000}}?\bvalues?\b"
_BARE = r"(?:(?!\w*password\s*\()\w+\s*\(.*|[^\s,;()'\"`]+(?!\w|\s*\())"
_ALSO = rf"(?::|\(|\blike\b|\bin{_GAP}\()"
_SQL = rf"""(?isx)
    (?P<rest> {_CALL} | {_LISTED} | \bbearer\s+(?=\S*\d) ).*
    | (?P<before>
      (?:[`"']\w{{0,60}}?{_SURE}\\*[`"']|{_SURE}){_GAP}(?:\bFOR\b(?:{_COMMENT}|'[^']*'|"[^"]*"|`[^`]*`|[^='"`]){{0,300}}+(?==))?
        (?:(?P<equals>{_EQUALS})|{_ALSO})?{_GAP}
      | {_NAME}\\*[`"']?{_GAP}(?:(?P<equals2>{_EQUALS})|{_ALSO}){_GAP}
      | (?<!\w)(?:BY|AS|USING|REPLACE){_GAP}
    )
    (?P<value>
      (?:(?:_\w{{1,20}}|[nxb])\s*)?{_QUOTED}(?:\s*{_QUOTED.replace("escapes", "escapes2").replace("mark", "mark2")})*
      | 0x[0-9a-f]+
      | (?(equals){_BARE}|(?(equals2){_BARE}))
    )
    # What the server makes of a password.
    | (?P<hash>\*[0-9A-F]{{40}}\b | \$[A-Z0-9]{{1,2}}\$\S+)"""
_URL = r"""(?ix)
    ( (?:[a-z][\w+.-]{0,30}\ ?[:;]?/{1,3} | (?:mysql|mariadb)[:;]) [^\s:@/]{0,100} : ) \S* (@)
    | ( (?:[a-z][\w+.-]{0,30}[:;]?/{2,3}) [^\s:@/]{1,100} : ) (?!\d{1,5}(?:[/\s]|\Z)) \S+ \Z
    | ( (?<![\w.%+@-])[\w.%+-]{1,100} : ) [^\s'"`,()@:/] (?:\S*[^\s'"`])? (@)(?=[\w\[])"""


def masked(text: str) -> str:
    """`text` without the passwords, and hashes of passwords, in SQL that it quotes and in URLs, mistyped ones too.

    What cannot be told from a password goes as well.

    >>> masked("Query: 'create user a@b identified by 'x''y' require ssl'")
    "Query: 'create user a@b identified by *** require ssl'"
    >>> masked("CHANGE MASTER TO MASTER_USER='u', MASTER_SURE='x'")
    "CHANGE MASTER TO MASTER_USER='u', MASTER_SURE=***"
    >>> masked("mysql:/u:x@h/db: no such file")
    'mysql:/u:***@h/db: no such file'
    """
    lower = text.lower()
    if any(word in lower for word in _HINTS):
        text = _masked_sql(text, lower.find("identified"))
    if ":" in text and ("@" in text or "//" in text):
        text = re.sub(_URL, lambda url: next(filter(None, url.group(1, 3, 4))) + MASK + "@" * ("@" in url[0]), text)
    return text


def _masked_sql(text: str, identified: int) -> str:
    """`identified` is where IDENTIFIED stands, -1 for nowhere: without it, BY, AS and USING are ordinary words."""
    parts: list[str] = []
    end = 0
    for found in re.finditer(_SQL, text):
        if found["rest"]:
            return "".join([*parts, text[end : found.end("rest")], MASK])
        word, value = (found["before"] or "")[:2].lower(), found["value"] or found["hash"]
        if not value or (word in ("by", "as", "us") and not 0 <= identified < found.start()):
            continue
        parts += [text[end : found.end() - len(value)], MASK]
        end = found.end()
        if re.search(rf"(?i)identified|{_SURE}", value):
            # Quotes do not pair up here: where this password ends, nobody can say.
            return "".join(parts)
    return "".join(parts) + text[end:]


FILTER_SHOWN, FILTER_KEPT = 200, 1500
"""Characters of a replication filter."""


def filter_name(entry: str) -> str:
    r"""A replication filter as it is shown, and can be given: one that is long, or not fit to print as it is, with a
    mark that no other has.

    >>> filter_name("Replicate_Do_DB=orders")
    'Replicate_Do_DB=orders'
    >>> filter_name(r"Replicate_Wild_Ignore_Table=app\_old.%")
    'Replicate_Wild_Ignore_Table=app/_old.%#dcee1e5604fc'
    """
    if len(entry) <= FILTER_SHOWN and clean(entry) == entry:
        return entry
    from hashlib import sha256

    return f"{clean(entry, FILTER_SHOWN - 20)}#{sha256(entry.encode('utf-8', 'replace')).hexdigest()[:12]}"


def filter_kept(entry: str) -> str:
    """A replication filter as a sample keeps it: as it is, but for one that is too long."""
    return entry if len(entry) <= FILTER_KEPT else filter_name(entry)


def plain(value: float, digits: int = 6) -> str:
    """A number as a plain decimal: never an exponent, no trailing zeros."""
    text = f"{value:.{digits}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


UNKNOWN = "unknown"
SOON = 600.0
"""Seconds: of what happens within so short a time people want to know the second."""


def span(seconds: float | None) -> str:
    """`0.6 s`, `22.5 s`, `12 min 5 s`, `3 h 12 min`, `2 d 3 h`: two units at most."""
    if seconds is None or not isfinite(seconds):
        return UNKNOWN
    sign, s = ("-", -seconds) if seconds < 0 else ("", seconds)
    if s < 99.95:
        return f"{sign}{plain(s, 1)} s"
    if s < 3599.5:
        return f"{sign}{_pair(round(s), 60, 'min', 's')}"
    if s < 86370:
        return f"{sign}{_pair(round(s / 60), 60, 'h', 'min')}"
    return f"{sign}{_pair(round(s / 3600), 24, 'd', 'h')}"


def _pair(whole: int, many: int, large: str, small: str) -> str:
    number, rest = divmod(whole, many)
    return f"{number} {large}" + (f" {rest} {small}" if rest else "")


def option_time(seconds: float) -> str:
    """`2h`, `90m`, `45s`: as options take it."""
    for size, letter in ((3600, "h"), (60, "m")):
        if seconds and seconds % size == 0:
            return f"{plain(seconds / size)}{letter}"
    return f"{plain(seconds)}s"


def countdown(seconds: float) -> str:
    """`1:23:45`, hours without end."""
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def short(seconds: float) -> str:
    """At most seven characters for an axis: `24s`, `12m`, `2h30m`, `18h`, `3d`."""
    if abs(seconds) < 600:
        return f"{plain(seconds, 0)}s"
    if abs(seconds) >= 100 * 3600:
        return f"{plain(seconds / 86400, 1 if abs(seconds) < 8.64e6 else 0)}d"
    sign = "-" if seconds < 0 else ""
    minutes = round(abs(seconds) / 60)
    if minutes < 60:
        return f"{sign}{minutes}m"
    return f"{sign}{minutes // 60}h" + (f"{minutes % 60:02}m" if minutes % 60 else "")


def size(count: int) -> str:
    """Bytes with a binary unit: `118 MiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1023.5 or unit == "TiB":
            break
        value /= 1024
    return f"{plain(value, 0 if value >= 100 or unit == 'B' else 1)} {unit}"


def _read(t: float) -> datetime | None:
    """The moment in this machine's time zone; None where it lies beyond every calendar."""
    from datetime import UTC, datetime

    try:
        return datetime.fromtimestamp(t, UTC).astimezone()
    except (OverflowError, ValueError, OSError):
        return None


def clock(t: float, now: float, seconds: bool = False) -> str:
    """`10:41`, or `Nov 22 10:41` where it is not today."""
    moment, today = _read(t), _read(now)
    if moment is None or today is None:
        return f"t={t:g}"
    time = moment.strftime("%H:%M:%S" if seconds else "%H:%M")
    if moment.date() == today.date():
        return time
    if abs(t - now) > 180 * 86400:
        return f"{moment:%Y-%m-%d} {time}"
    return f"{moment:%b} {moment.day} {time}"


def moment(t: float) -> str:
    """`2026-11-23 10:41:05 UTC`."""
    found = _read(t)
    return f"t={t:g}" if found is None else f"{found:%Y-%m-%d %H:%M:%S} {found.tzname() or ''}".rstrip()


def utc(t: float | None) -> str:
    """The same in UTC, without datetime."""
    try:
        return UNKNOWN if t is None else strftime("%Y-%m-%d %H:%M:%S UTC", gmtime(t))
    except (OverflowError, ValueError, OSError):
        return f"t={t:g}"


def slope(value: float) -> str:
    """Seconds of delay per second, signed: `+1.00 s/s`, `-0.003 s/s`."""
    digits = 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 4
    text = f"{value:+.{digits}f}"
    return f"{text if float(text) else text.lstrip('+-')} s/s"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def shown(text: str) -> str:
    """Text that others wrote, fit to be shown."""
    return clean(text, 64)


def pasted(path: str) -> str:
    """A path as part of a command for a shell."""
    from shlex import quote  # left to those who have something to tell

    return quote(path)


def user_name(number: int | None = None) -> str:
    """A user's name, by default of the one that runs this; the number where there is no name."""
    import pwd

    number = os.geteuid() if number is None else number
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
