"""pt-slave-delay in place of a delay of the server's own, and then nobody delays any more. Group 7 of the faults."""

from __future__ import annotations

import time

from .matrix import Watched, on
from .servers import DELAY_S, wait_until

FAMILIES = ("mysql56", "mariadb", "mariadb118")
"""Those that pt-slave-delay supports."""
WIDE = ("--max-delay-time", "22")
"""Its saw-tooth reaches from its delay to some seconds beyond: it holds the thread until more has been fetched."""


@on(*FAMILIES)
def test_pt_slave_delay_dies(external: Watched) -> None:
    replica, outside = external.replica, external.pair.slave_delay
    with external.twin("7.1", "it stops and starts the thread", options=WIDE, watch=DELAY_S):
        pass
    title = "pt-slave-delay: killed, the SQL thread stopped"
    with external.fault("7.1", title, "delay-out-of-bounds", within=DELAY_S + 10, options=WIDE) as it:
        wait_until(lambda: replica.threads()[1] == "No", 30, "the SQL thread is stopped", interval_s=0.05)
        outside.stop()
        assert "above the maximum" in it.detected().message
        assert replica.threads()[1] == "No"
        it.mending()
        replica.start_sql()
        outside.start()

    with external.twin("7.2", "it hangs for three seconds", options=WIDE, watch=6):
        outside.container.kill(signal="SIGSTOP")
        time.sleep(3)
        outside.start()
    title = "pt-slave-delay: ended, the SQL thread running"
    conditions = ("line-drained", "delay-out-of-bounds")  # which comes first depends on where the saw-tooth stood
    with external.fault("7.2", title, conditions, within=DELAY_S + 4, options=WIDE) as it:
        outside.terminate()
        assert "below the minimum" in it.detected().message
        assert replica.threads()[1] == "Yes"
        it.mending()
        outside.start()
