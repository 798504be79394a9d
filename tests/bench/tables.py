"""What was measured, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from .checks import GIVE_UP_S, Aged, Costs, Failure
from .contenders import FLOORS, HEALTH, HEARTBEAT, INLINE, OURS, PEERS, SHELL, WORKER
from .fleet import REPLICAS as FLEET
from .fleet import Batch
from .measure import Use
from .workers import INTERVAL_S, REPLICAS, SERVERS, Watched

LIMITS = (
    # What was promised: which of ours, by which number, against whom.
    ("CPU", WORKER, HEALTH),
    ("CPU", INLINE, HEARTBEAT),
    ("memory", WORKER, HEALTH),
    ("memory", INLINE, HEALTH),
)
NOTHING = "-"
AIMS = (("CPU", WORKER, SHELL), ("CPU", INLINE, HEALTH))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its first column to the left and the others to the right."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def healthy(costs: dict[str, Costs], runs: int) -> str:
    """Everyone, by socket and by TCP, and both ways to check as ratios to each."""
    head = ["", "CPU ms", "over TCP", "wall ms", "MiB", "bytes", "round trips", "worker-sampled ÷ it", "inline ÷ it"]
    ours = [costs[name].socket.cpu_ms for name in OURS]
    rows = []
    for name in (*FLOORS, *OURS, *PEERS):
        cost = costs[name]
        wire = (f"{cost.wire.sent + cost.wire.received:,}", str(cost.wire.trips)) if cost.wire else (NOTHING, NOTHING)
        title = f"**{name}**" if name in OURS else name
        use = cost.socket
        rows.append(
            [
                *(title, f"{use.cpu_ms:.1f}", f"{cost.tcp.cpu_ms:.1f}", f"{use.wall_ms:.1f}", f"{use.peak_mib:.1f}"),
                *wire,
                *(f"{own / use.cpu_ms:.2f}" for own in ours),
            ]
        )
    return (
        f"**A check** of a healthy replica by its socket, medians of {runs} interleaved runs. CPU is user and system"
        " time of the whole process and its children, MiB the most memory in use, bytes and round trips what is said"
        " over TCP.\n\n" + table(head, rows) + "\n" + promises(costs)
    )


def promises(costs: dict[str, Costs]) -> str:
    """The ratios that were promised, and those that are aimed at."""

    def lines(kind: str, limits: Iterable[tuple[str, str, str]]) -> Iterable[str]:
        for what, ours, peer in limits:
            own, other = costs[ours].socket, costs[peer].socket
            ratio = own.cpu_ms / other.cpu_ms if what == "CPU" else own.peak_mib / other.peak_mib
            yield f"- {what}, {ours} ÷ {peer}: {ratio:.2f}, {kind} 1.00{'' if ratio <= 1 else ' (MISSED)'}\n"

    return "".join([*lines("must be at most", LIMITS), *lines("aimed at", AIMS)])


def aged(rows: Iterable[Aged]) -> str:
    """Both checks by the age of their histories."""
    kinds = ("worker-sampled", "inline", "the very first")
    head = ["history of", "MiB on disk", *(text for kind in kinds for text in (f"{kind}: CPU ms", "MiB"))]
    body = (
        [row.name, f"{row.mib:.1f}", *(text for use in (row.sampled, row.inline, row.first) for text in _short(use))]
        for row in rows
    )
    return (
        "**With a history** of a look every 10 s and a backup a night. The very first check under new limits begins"
        " late, where nothing older can matter; what it has done is kept.\n\n" + table(head, body)
    )


def _short(use: Use) -> tuple[str, str]:
    return f"{use.cpu_ms:,.1f}", f"{use.peak_mib:.1f}"


def failing(failures: Iterable[Failure], costs: dict[str, Costs]) -> str:
    """CPU, wall time and exit status of everyone where something is wrong."""
    names = (*OURS, *PEERS)
    over = {name: (costs[name].socket if name == WORKER else costs[name].tcp) for name in names}
    rows = [["nothing", *(_ended(over[name]) for name in names)]]
    rows += [[what, *(_ended(uses[name]) if name in uses else NOTHING for name in names)] for what, uses in failures]
    return (
        f"**Failing**: CPU, wall time and exit status, over TCP. What does not end in {GIVE_UP_S:g} s is killed.\n\n"
        + table(["what is wrong", *names], rows)
    )


def _ended(use: Use) -> str:
    end = "killed" if use.status is None else f"exit {use.status}"
    return f"{use.cpu_ms:.0f} ms, {use.wall_ms:,.0f} ms wall, {end}"


def worker(watched: dict[str, Watched]) -> str:
    """A worker's figures, with all servers well and with some hung."""

    def row(name: str, text: Callable[[Watched], str]) -> list[str]:
        return [name, *(text(each) for each in watched.values())]

    rows = [
        row("looks a second", lambda each: f"{each.looks / each.seconds:.1f}"),
        row("CPU ms a look", lambda each: f"{1000 * each.cpu_s / each.looks:.2f}"),
        row("of one core", lambda each: f"{100 * each.cpu_s / each.seconds:.0f} %"),
        row("looks that saw no delay", lambda each: f"{100 * each.failed / each.looks:.1f} %"),
        row("late, 50th percentile", lambda each: f"{1000 * each.late_s[0]:.0f} ms"),
        row("late, 95th percentile", lambda each: f"{1000 * each.late_s[1]:.0f} ms"),
        row("late, 99th percentile", lambda each: f"{1000 * each.late_s[2]:.0f} ms"),
        row("late at most", lambda each: f"{1000 * each.late_s[3]:.0f} ms"),
        row("memory", lambda each: f"{each.rss_mib:.0f} MiB"),
        row("threads at most", lambda each: str(each.threads)),
        row("connections to servers that answer", lambda each: str(each.connections)),
        row("history per replica and day", lambda each: f"{each.bytes_per_day / 1e6:.2f} MB"),
    ]
    seconds = next(iter(watched.values())).seconds
    return (
        f"**A worker**, one process, {REPLICAS:,} replicas and as many connections to {SERVERS} servers, {seconds:.0f}"
        " seconds each. Lateness is that of the looks at servers that answer.\n\n"
        + table([f"{REPLICAS:,} replicas, every {INTERVAL_S} s", *watched], rows)
    )


def fleet(both: Batch, icinga: str) -> str:
    """One process for each replica beside one for all of them, and what Icinga 2 runs."""
    each, together = both.each.cpu_ms, both.together.cpu_ms / FLEET
    return (
        f"**A fleet of checks**, worker-sampled. Icinga 2 in a container:\n\n{indented(icinga)}\n"
        "What bounds it is the CPU time that the checks take, most of it the interpreter and its imports. One process"
        f" that judges {FLEET} replicas takes {together:.1f} ms of CPU for each, where a process for each takes"
        f" {each:.1f} ms; that is not built.\n"
    )


def indented(text: str) -> str:
    """As Markdown shows a program's output."""
    return "".join(f"    {line}\n" for line in text.strip().splitlines())
