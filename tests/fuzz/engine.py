"""One target, for a time: `python -m tests.fuzz.engine TARGET FOLDER SECONDS`, as `python -m tests.fuzz` runs it.

FOLDER holds `seeds`; inputs that reach something new go to `found`, those that break a promise to `broken`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import random
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NoReturn

MEMORY_MIB = 1024
SLOWEST_S = 10.0
"""No input may take more memory, or longer."""


def main() -> int:
    if sys.argv[1] == "--covered":
        print(covered(sys.argv[2], [Path(one) for one in sys.argv[3:]]))
        return 0
    name, folder, seconds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    led = importlib.util.find_spec("atheris") is not None
    return (by_coverage if led else by_chance)(name, folder, seconds)


def by_coverage(name: str, folder: Path, seconds: int) -> NoReturn:
    """libFuzzer, by way of atheris; ends the process."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["check_delayed_repl", "pymysql"]):
        from tests.fuzz.targets import TARGETS

        fuzzed = TARGETS[name]
        for module in fuzzed.modules:
            importlib.import_module(f"check_delayed_repl.{module.replace('/', '.')}")
    words = folder / "words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in fuzzed.words))
    flags = [
        f"-max_total_time={seconds}",
        f"-max_len={fuzzed.longest}",
        f"-timeout={SLOWEST_S:.0f}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-artifact_prefix={folder}/broken/",
        f"-dict={words}",
        "-print_final_stats=1",
    ]
    atheris.Setup(["fuzz", *flags, str(folder / "found"), str(folder / "seeds")], fuzzed.run)
    atheris.Fuzz()
    raise AssertionError("the fuzzer came back")


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def by_chance(name: str, folder: Path, seconds: int) -> int:
    """Mutations of the seeds, and of what reached lines that nothing before had reached."""
    from tests.fuzz.targets import TARGETS

    fuzzed = TARGETS[name]
    chance = random.Random()
    pool = [path.read_bytes() for path in sorted((folder / "seeds").iterdir())] or [b""]
    seen: set[tuple[CodeType, int]] = set()
    end = time.monotonic() + seconds
    runs = 0
    broken = False
    while time.monotonic() < end:
        data = mutated(chance, pool, fuzzed.words)[: fuzzed.longest]
        began = time.monotonic()
        try:
            with tracing(fuzzed.modules) as reached:
                fuzzed.run(data)
            slow = time.monotonic() - began > SLOWEST_S
        except Exception:  # noqa: BLE001  whatever it is, it was not foreseen
            traceback.print_exc()
            slow = True
        if slow:
            broken = True
            save(folder / "broken", data)
            break
        if not reached <= seen:
            seen |= reached
            pool.append(data)
            save(folder / "found", data)
        runs += 1
    print(f"runs: {runs}")
    return 1 if broken else 0


def mutated(chance: random.Random, pool: list[bytes], words: tuple[bytes, ...]) -> bytes:
    """One of the pool, changed in a few places."""
    data = bytearray(chance.choice(pool))
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        place = chance.randrange(len(data) + 1)
        match chance.randrange(6):
            case 0 if data:
                data[place % len(data)] = chance.randrange(256)
            case 1:
                del data[place : place + chance.choice((1, 2, 8, 64))]
            case 2:
                data[place:place] = chance.choice(words)
            case 3:
                word = chance.choice(words)
                data[place : place + len(word)] = word
            case 4:
                data[place:place] = data[place : place + chance.choice((1, 16, 256))]
            case _:
                other = chance.choice(pool)
                data[place:] = other[chance.randrange(len(other) + 1) :]
    return bytes(data)


def save(folder: Path, data: bytes) -> None:
    (folder / hashlib.sha256(data).hexdigest()[:12]).write_bytes(data)


class tracing:  # noqa: N801  a context manager, used like a function
    """The lines of the modules that run inside, as (code, line)."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        self._ends = tuple(f"check_delayed_repl/{module}.py" for module in modules)
        self._reached: set[tuple[CodeType, int]] = set()

    def __enter__(self) -> set[tuple[CodeType, int]]:
        sys.settrace(self._call)
        return self._reached

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _call(self, frame: FrameType, _: str, __: object) -> Callable[..., Any] | None:
        return self._line if frame.f_code.co_filename.endswith(self._ends) else None

    def _line(self, frame: FrameType, event: str, _: object) -> Callable[..., Any]:
        if event == "line":
            self._reached.add((frame.f_code, frame.f_lineno))
        return self._line


def covered(name: str, folders: list[Path]) -> str:
    """How many lines of each of the target's modules the inputs in these folders reach."""
    from tests.fuzz.targets import TARGETS

    fuzzed = TARGETS[name]
    inputs = 0
    with tracing(fuzzed.modules) as reached:
        for folder in folders:
            for path in sorted(folder.iterdir()):
                inputs += 1
                fuzzed.run(path.read_bytes())
    counts = []
    for module in fuzzed.modules:
        loaded = importlib.import_module(f"check_delayed_repl.{module.replace('/', '.')}")
        assert loaded.__file__
        lines = set(lines_of(compile(Path(loaded.__file__).read_text(), loaded.__file__, "exec")))
        hit = {line for code, line in reached if code.co_filename == loaded.__file__}
        counts.append(f"{module} {len(hit & lines)} of {len(lines)} lines")
    return f"{inputs} inputs reach {', '.join(counts)}"


def lines_of(code: CodeType) -> Iterator[int]:
    """The lines inside of functions."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if constant.co_flags & 2:  # a function's, not a class's
                yield from (line for _, _, line in constant.co_lines() if line and line != constant.co_firstlineno)
            yield from lines_of(constant)


if __name__ == "__main__":
    sys.exit(main())
