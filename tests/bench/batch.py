"""Many replicas judged by one process: what a check for a whole fleet would cost. Measured here, and nowhere else.

batch.py HISTORY OPTION...      judges every replica of the history under the options of check_delayed_repl
"""

from __future__ import annotations

import os
import sys
import time

from check_delayed_repl.history import open_history
from check_delayed_repl.history.folding import judged
from check_delayed_repl.options import limits_from
from check_delayed_repl.plugin import build_parser
from check_delayed_repl.report import nagios

limits = limits_from(build_parser().parse_args(sys.argv[2:]))
history = open_history(sys.argv[1], time.monotonic() + 600)
for name in history.replicas():
    sys.stdout.write(nagios.render(judged(history, name, limits, worker=True), limits))
sys.stdout.flush()
history.close()
os._exit(0)
