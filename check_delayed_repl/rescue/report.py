"""What a rescue command says: as text while it goes on, or as one JSON object at its end."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from check_delayed_repl.rescue.find import Found, Listing
from check_delayed_repl.words import one_line, plural, size


@dataclass
class Report:
    """The object; its fields are the JSON's keys."""

    phase: str = "unknown"
    held: bool = False
    done: list[str] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)
    position: str | None = None
    tables: list[dict[str, Any]] = field(default_factory=list)
    dump: str | None = None
    next: str = ""
    reasons: list[str] = field(default_factory=list)


class Voice:
    """Where a command's text goes."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._progress = sys.stderr.isatty() and not as_json
        self._kept: list[str] | None = None

    def say(self, line: str = "") -> None:
        if self._kept is not None:
            self._kept.append(line)
        elif not self.as_json:
            self._print(line)

    def _print(self, line: str) -> None:
        """What cannot be shown, or whom nobody reads any more, does not end what is being done. Tables and files may be
        called anything, such as what moves a terminal's cursor, or a line that looks like one of these."""
        line = "".join(char if char.isprintable() else "?" for char in line)
        with contextlib.suppress(OSError):
            try:
                print(line, flush=True)
            except UnicodeError:
                print(line.encode("ascii", "backslashreplace").decode(), flush=True)
            return
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  what is left in the buffer would fail again

    def keep(self) -> None:
        """Keeps lines back until `release`: what comes first is not known yet."""
        self._kept = []

    def release(self, *first: str) -> None:
        lines, self._kept = [*first, *(self._kept or ())], None
        for line in lines:
            self.say(line)

    def mind(self, notes: Iterable[str]) -> None:
        """What one must know before."""
        for note in notes:
            self.say(f"Mind: {note}.")

    def progress(self, line: str) -> None:
        if self._progress:
            try:
                print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
            except OSError:
                self._progress = False
                sys.stderr = open(os.devnull, "w")  # noqa: SIM115

    def finish(self, report: Report) -> None:
        """The rest of what a report has to say: reasons, what is left to be done, the next step."""
        if self.as_json:
            self._print(json.dumps(vars(report)))
            return
        for reason in report.reasons:
            self.say(f"  - {reason}")
        self.statements(report.statements)
        for row in report.tables:
            self.say(f"Verified here: {row['name']} has {plural(row['count'], 'row')}, checksum {row['checksum']}.")
        if report.dump and not report.statements:
            self.say("To bring the table back, without its triggers, on a machine that reaches both servers:")
            self.say(f"    {report.dump}")
            self.say(
                "Nor has it the procedures, functions and events of a database. A RENAME into place leaves a table's"
            )
            self.say(
                "foreign keys referring to the schema that it comes from: drop them before it, and add them after it."
            )
        if report.next:
            self.next(report.next)

    def next(self, step: str) -> None:
        """The next step; its commands stand on lines of their own."""
        for line in f"Next: {step}".split("\n"):
            self.say(line)

    def statements(self, statements: Sequence[str]) -> None:
        for statement in statements:
            self.say(f"    {statement};")

    def found(self, listing: Listing) -> None:
        """What waits: a line each, or an object each."""
        found, scan = listing.found, listing.scan
        if self.as_json:
            for one in found:
                self._print(json.dumps(as_object(one)))
            return
        if listing.first is None and scan.broken:
            self.say(f"What waits here cannot be read: {scan.broken}.")
        elif listing.first is None:
            self.say("Nothing waits here: all that was fetched has been applied.")
        else:
            first = listing.first
            self.say(
                f"The oldest waiting change: {first.moment}, at {first.transaction.source}."
                " Older changes have been applied here."
            )
            waiting = plural(scan.count, "transaction")
            if scan.broken:
                self.say(f"NOT ALL OF IT: {scan.broken}.")
            self.say(f"{waiting} of {size(scan.total)} wait, {scan.matches} of them as asked for.")
        if not found:
            self.say("None of them is what you look for. That does not mean that it is safe: it may have been applied")
            self.say(
                "before, not be fetched yet, or stand under another table's name: a view's, a trigger's, a parent's."
            )
            return
        self.say()
        for one in found:
            it = one.transaction
            self.say(f"{it.name}  {one.moment}  {it.kind}  {', '.join(it.tables) or '-'}")
            events = f"{plural(it.events, 'event')}, {size(it.size)}, at {it.source}"
            self.say(f"    {events}{'' if it.whole else ', not whole yet'}")
            if it.statement:
                self.say(f"    {one_line(it.statement, 200)}")
        if scan.matches > len(found):
            self.say(f"... and {scan.matches - len(found)} more (--limit 0 shows all)")


def as_object(one: Found) -> dict[str, Any]:
    it = one.transaction
    return {
        "target": it.name,
        "time": one.moment.time,
        "time_error": one.moment.error,
        "kind": it.kind,
        "tables": list(it.tables),
        "events": it.events,
        "bytes": it.size,
        "statement": one_line(it.statement) if it.statement else None,
        "gtid": it.gtid,
        "source_position": str(it.source),
        "relay_position": str(it.relay),
    }
