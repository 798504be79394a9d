"""A connection to a history's database, and what comes of it when something is wrong: one line that says what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic

from check_delayed_repl.history.codec import Row
from check_delayed_repl.light import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Self, TypeVar

    _Result = TypeVar("_Result")


class HistoryUnavailable(Exception):
    """The history cannot be used, or not for what was asked. The message is one line that says what to do; it holds no
    password."""


class Database:
    """What is alike with every driver. Every method raises HistoryUnavailable, and nothing else."""

    errors: tuple[type[Exception], ...]
    """What the driver raises, whatever is wrong."""
    mark = "?"
    """The driver's mark for a parameter."""

    def __init__(self, name: str, deadline: float) -> None:
        self.name = name
        """Where the history is, fit to be printed."""
        self.deadline = deadline
        """Until when calls may take, by time.monotonic(). A process that goes on and on sets it anew before each."""
        self.readable = True
        """False where this account may INSERT job lines and nothing else: then only `now` and `add_job` work."""
        self.warnings: list[str] = []
        """What is wrong with it without keeping it from being used, one line each."""
        self._connection: Any = None
        self._numbers: dict[str, int] = {}
        """The replicas' numbers, as far as they are known."""

    def now(self) -> float:
        """The history's own clock: seconds since 1970, UTC."""
        raise NotImplementedError

    def _ready(self) -> None:
        """Sees to it that there is a connection, for a stretch of work until the deadline."""
        raise NotImplementedError

    def _begin(self) -> None:
        """Begins a transaction that holds the lock on `counter`."""
        raise NotImplementedError

    def _unavailable(self, error: BaseException) -> HistoryUnavailable:
        """What to say of an error, and what to do about it."""
        raise NotImplementedError

    def _undone(self, _error: BaseException) -> bool:
        """Whether the server has undone a transaction for another's sake, so that it may be tried again."""
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _left_s(self) -> float:
        """Seconds until the deadline. Raises HistoryUnavailable where it has passed."""
        left = self.deadline - monotonic()
        if left <= 0:
            raise HistoryUnavailable(f"history {self.name}: no time was left to use it: raise --timeout")
        return left

    def _wrong(self, what: str) -> HistoryUnavailable:
        return HistoryUnavailable(f"history {self.name} {what}")

    def close(self) -> None:
        """Lets go of file or connection."""
        connection, self._connection = self._connection, None
        self._numbers.clear()
        if connection is not None:
            with suppress(*self.errors):
                connection.close()

    def _read(self, work: Callable[[], _Result]) -> _Result:
        """Runs `work`, which only reads."""
        try:
            self._ready()
            return work()
        except self.errors as error:
            raise self._failure(error) from None

    def _write(self, work: Callable[[], _Result]) -> _Result:
        """Runs `work` in a transaction that holds the lock on `counter`; where it was undone, again."""
        while True:
            try:
                self._ready()
                self._begin()
                result = work()
                self._connection.commit()
                return result
            except BaseException as error:  # noqa: BLE001  it is raised again
                # The reason is looked for first: a lost connection is forgotten when rolling back fails.
                failure = self._failure(error)
                self._numbers.clear()  # those given in this transaction are not
                try:
                    if self._connection is not None:
                        self._connection.rollback()
                except self.errors:
                    self.close()
                if monotonic() >= self.deadline or not self._undone(error):
                    raise failure from None

    def _failure(self, error: BaseException) -> BaseException:
        """What to raise in the place of an error: where it is the driver's, what to say of it."""
        of_driver = isinstance(error, self.errors) and not isinstance(error, HistoryUnavailable)
        return self._unavailable(error) if of_driver else error

    def _execute(self, statement: str, parameters: Sequence[object] = ()) -> Any:
        cursor = self._connection.cursor()
        cursor.execute(statement.replace("?", self.mark), *([tuple(parameters)] if parameters else ()))
        return cursor

    def _rows(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]:
        return list(self._execute(statement, parameters).fetchall())

    def _run(self, statement: str, parameters: Sequence[object] = ()) -> int:
        """Runs a statement that changes something; returns how many rows it changed."""
        return int(self._execute(statement, parameters).rowcount)

    def _run_many(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        self._connection.cursor().executemany(statement.replace("?", self.mark), rows)

    def _select(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]:
        return self._read(lambda: self._rows(statement, parameters))
