"""Feeds other strangers than a test run makes up, for a time, or until one breaks a promise."""

from __future__ import annotations

import argparse
import time

from tests.fuzz.targets import TARGETS
from tests.fuzz.test_fuzz import feed

parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
parser.add_argument("target", nargs="*", choices=[*TARGETS, []], metavar="TARGET", help=f"{', '.join(TARGETS)} (all)")
parser.add_argument("--minutes", type=float, default=60.0, metavar="N", help="for all of them together (default 60)")
args = parser.parse_args()
end = time.monotonic() + 60.0 * args.minutes
rounds = 0
while time.monotonic() < end:
    for name in args.target or TARGETS:
        feed(name, derandomize=False)
    rounds += 1
print(f"{rounds} rounds: nothing broke")
