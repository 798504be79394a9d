"""`python -m tests.fuzz`: the long run. It ends by itself, and leaves in the corpus whatever broke a promise."""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.targets import CORPUS, TARGETS, seeds

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description="Feeds mutilated input to every reader of what strangers send. With the Python package atheris it"
        " is led by coverage, without it by chance. What breaks a promise becomes a file of the corpus, which every"
        " test run replays.",
    )
    parser.add_argument("target", nargs="*", metavar="TARGET", help=f"{', '.join(TARGETS)} (default: all)")
    parser.add_argument(
        "--minutes", type=float, default=60.0, metavar="N", help="for all of them together (default 60)"
    )
    args = parser.parse_args()
    for name in args.target:
        if name not in TARGETS:
            parser.error(f"there is no target {name!r}")
    led = importlib.util.find_spec("atheris") is not None
    print("led by coverage" if led else "led by chance: pip install atheris would add coverage", flush=True)
    names = args.target or list(TARGETS)
    broken = [name for name in names if not fuzzed(name, args.minutes * 60 / len(names))]
    if broken:
        print(f"BROKEN: {', '.join(broken)}; see {CORPUS.relative_to(ROOT)}", file=sys.stderr)
    return 1 if broken else 0


def fuzzed(name: str, seconds: float) -> bool:
    """Runs one target in a process of its own; says what it covered; False where a promise broke."""
    with tempfile.TemporaryDirectory(prefix="delayed-repl-fuzz-") as folder:
        work = Path(folder)
        for place in ("seeds", "found", "broken"):
            (work / place).mkdir()
        for file, data in seeds(name).items():
            (work / "seeds" / file).write_bytes(data)
        began = time.monotonic()
        log = work / "log"
        with log.open("wb") as stream:
            status = subprocess.run(
                [sys.executable, "-m", "tests.fuzz.engine", name, folder, f"{seconds:.0f}"],
                cwd=ROOT,
                stdout=stream,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
        said = log.read_text(errors="replace")
        runs = re.search(r"^(?:runs|stat::number_of_executed_units):\s+([0-9]+)", said, re.MULTILINE)
        print(
            f"{name}: {time.monotonic() - began:.0f} s, {runs[1] if runs else 'unknown'} runs, {covered(name, work)}",
            flush=True,
        )
        kept = [keep(name, path) for path in sorted((work / "broken").iterdir())]
        if status or kept:
            print(said[-3000:], file=sys.stderr)
            print(f"{name}: broken by {', '.join(kept) or 'something that left no input'}", file=sys.stderr, flush=True)
        return not (status or kept)


def keep(name: str, path: Path) -> str:
    """Copies what broke a promise into the corpus."""
    data = path.read_bytes()
    kept = CORPUS / name / f"found-{hashlib.sha256(data).hexdigest()[:12]}.bin"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(data)
    return str(kept.relative_to(ROOT))


def covered(name: str, work: Path) -> str:
    """The lines of the target's modules that all inputs of this run together have reached."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.engine", "--covered", name, str(work / "seeds"), str(work / "found")],
        cwd=ROOT,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or f"coverage unknown: {done.stderr.strip()[-200:]}"


if __name__ == "__main__":
    sys.exit(main())
