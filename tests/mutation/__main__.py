"""`tests/mutation/run`: how many small changes to the judge the tests notice.

usage: tests/mutation/run [--survivors] [FUNCTION ...]

Every function of check_delayed_repl/judge/ is changed in every small way that mutmut knows, one at a time, and the
tests that call it are run until one of them fails. What the quick tests do not notice is tried with the slow ones as
well. Changes that no test notices must be explained in tests/mutation/survivors.md.

  --survivors  only those that were neither noticed the last time nor explained since
  FUNCTION     only these, and those whose names begin so: trend, fold.Fold.add

Exit status: 0 when every change is noticed or explained, 1 when one is not.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .mutants import MODULES, ROOT, Mutant, mutants_of
from .trials import Trials

HOME = ROOT / ".mutation"
RESULTS = HOME / "results.json"
EXPLAINED = Path(__file__).parent / "survivors.md"
QUICK = (
    "test_facts.py",
    "test_rules.py",
    "test_observed.py",
    "test_jobs_judge.py",
    "test_verdict.py",
    "test_trend.py",
    "test_fold.py",
    "test_folding.py",
)
SLOW = (
    "test_resume.py",
    "test_judge_calm.py",
    "test_real_recordings.py",
    "test_small_model.py",
    "test_theorem.py",
    "test_alarm_quality.py",
)
SIZES = {"THEOREM_EXAMPLES": "20", "ALARM_QUALITY_LINES": "4", "ALARM_QUALITY_DAYS": "1"}
"""How much of the slow tests is run."""


class Book:
    """What became of every mutant, kept between runs."""

    def __init__(self) -> None:
        self.killers: dict[str, str | None] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        self.explained = explained()
        self._begin = time.monotonic()
        self._tried = 0

    def doubt(self, mutant: Mutant) -> bool:
        return mutant.text not in self.explained

    def settled(self, mutant: Mutant) -> bool:
        """It was noticed the last time, or was not and is explained."""
        return mutant.text in self.killers and (bool(self.killers[mutant.text]) or not self.doubt(mutant))

    def tell(self, mutant: Mutant, killer: str | None) -> None:
        self.killers[mutant.text] = killer
        self._tried += 1
        if self._tried % 50 == 0:
            self.save()
            minutes = (time.monotonic() - self._begin) / 60.0
            print(f"{self._tried} tried in {minutes:.0f} minutes, now {mutant.function}", file=sys.stderr, flush=True)

    def save(self) -> None:
        RESULTS.write_text(json.dumps(self.killers, indent=0, ensure_ascii=False))


def explained() -> set[str]:
    """The mutants that survivors.md explains: function, - what was, + what it became."""
    text = EXPLAINED.read_text() if EXPLAINED.exists() else ""
    return set(re.findall(r"^\S+(?: \(\d+\))?\n- .*\n\+.*$", text, re.MULTILINE))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(usage=__doc__, add_help=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--survivors", action="store_true")
    parser.add_argument("functions", nargs="*")
    options = parser.parse_args(arguments)
    if options.help:
        print(__doc__)
        return 0
    HOME.mkdir(exist_ok=True)
    every = [mutant for module in MODULES for mutant in mutants_of(module, HOME)]
    book = Book()

    def chosen() -> Iterator[Mutant]:
        for mutant in every:
            wanted = not options.functions or mutant.function.startswith(tuple(options.functions))
            if wanted and not (options.survivors and book.settled(mutant)):
                yield mutant

    os.environ.update({name: os.environ.get(name, size) for name, size in SIZES.items()})
    files = [str(ROOT / "tests" / name) for name in (*QUICK, *SLOW)]
    trials = Trials(list(chosen()), SLOW, book.doubt, book.tell)
    # No words about failures: nobody reads them, and they take longer than the tests.
    plain = ["-qq", "-s", "--no-header", "--assert=plain", "--tb=native", "-p", "no:cacheprovider"]
    status = pytest.main([*plain, f"--rootdir={ROOT}", *files], [trials])
    book.save()
    if status or trials.failed:
        print(trials.failed or f"pytest ended with status {int(status)}", file=sys.stderr)
        return 1
    return report(every, book)


def report(every: list[Mutant], book: Book) -> int:
    texts = {mutant.text: mutant for mutant in every}
    known = [text for text in texts if text in book.killers]
    survived = [text for text in known if book.killers[text] is None]
    unexplained = [text for text in survived if text not in book.explained]
    for text in unexplained:
        print(f"{text}\n")
    for text in sorted(book.explained - set(survived)):
        if text not in texts or text in book.killers:
            print(f"no longer a survivor, though explained:\n{text}\n")
    print(
        f"{len(known)} mutants of {len(texts)} tried: {len(known) - len(survived)} killed, {len(survived)} survived, "
        f"{len(survived) - len(unexplained)} of them explained"
    )
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
