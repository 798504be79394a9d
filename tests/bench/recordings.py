"""Recordings of calm lines, with a backup every night or without, as a worker would have made them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

EVERY_S = 10
DELAY_S = 20
DAY = 86400
BACKUP_S = 3600
"""How long the nightly backup stops the line; twelve hours lie between the last one and the end."""
CATCHES_UP = 5.0
"""Seconds of delay that the line loses per second after that."""


def lines(samples: int, end: float, bare: bool, nights: bool) -> Iterator[dict[str, object]]:
    """So many samples up to `end`, with the jobs' lines; `bare` ones have a time and a delay alone, and
    without `nights` the line is calm from end to end."""
    random = Random(samples)
    for number in range(samples):
        t = round(end - (samples - number) * EVERY_S, 1)
        since = (t - end + DAY / 2) % DAY if nights else DAY
        if since < EVERY_S or BACKUP_S <= since < BACKUP_S + EVERY_S:
            job = {"type": "job", "t": t, "id": f"night-{int((t - since) / DAY)}", "kind": "backup"}
            finished = t if since >= BACKUP_S else None
            yield {**job, "started_at": t - (since if finished else 0), "finished_at": finished}
        behind = since if since < BACKUP_S else max(0.0, BACKUP_S - (since - BACKUP_S) * CATCHES_UP)
        delay = round(DELAY_S + behind + random.uniform(0, 1.5), 3)
        sample: dict[str, object] = {"type": "sample", "t": t, "delay": delay}
        if not bare:
            sample |= {
                "ts": round(t - delay, 6),
                "source_id": 1,
                "heartbeat_id": 1,
                "local": round(random.uniform(0, 1), 3),
                "io": "Yes",
                "sql": "Yes",
                "io_errno": 0,
                "sql_errno": 0,
                "source_log": [f"bin.{int(t * 500) >> 30:06d}", int(t * 500) % 2**30],
                "relay_log": [f"bin.{int((t - delay) * 500) >> 30:06d}", int((t - delay) * 500) % 2**30],
                "relay_log_space": int(delay * 500),
                "sql_delay": DELAY_S,
                "sql_remaining": 1,
                "seconds_behind": int(delay),
            }
        yield sample


def write(file: Path, samples: int, end: float, bare: bool = False, nights: bool = True) -> Path:
    with file.open("w") as stream:
        for line in lines(samples, end, bare, nights):
            stream.write(json.dumps(line, separators=(",", ":")) + "\n")
    return file
