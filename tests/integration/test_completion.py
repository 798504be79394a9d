"""The generated completion and man pages in the hands of the programs that read them: zsh and mandoc."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from testcontainers.core.container import DockerContainer

from .monitoring import EXAMPLES, monitoring_image
from .servers import Kit

pytestmark = pytest.mark.monitoring

CAPTURE = r"""
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "stty cols 200; fpath=(/examples/completion \$fpath); autoload -U compinit; compinit -u -D; print READY"
while zpty -r shell line; do [[ $line == READY* ]] && break; done
zpty -n -w shell "$1"$'\t'
while zpty -r shell line "$2"; do print -r -- "$line"; break; done
"""
"""Types into an interactive zsh, asks for completion, and prints what is shown until something is offered."""


@pytest.fixture(scope="module")
def reader(kit: Kit) -> Iterator[DockerContainer]:
    container = (
        DockerContainer(monitoring_image())
        .with_volume_mapping(str(EXAMPLES), "/examples", "ro")
        .with_command(["sleep", "infinity"])
        .with_kwargs(labels=kit.labels, init=True)
    )
    container.start()
    yield container
    container.stop()


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("check_delayed_repl --min-", "--min-recovery-slope"),
        ("check_delayed_repl --delay-mode ", "external"),
        ("delayed-repl ", "worker"),
        ("delayed-repl job ", "void"),
        ("delayed-repl job run --kind ", "deshard"),
    ],
)
def test_zsh_offers(reader: DockerContainer, typed: str, offered: str) -> None:
    done = reader.exec(["timeout", "20", "zsh", "-f", "-c", CAPTURE, "zsh", typed, f"*{offered}*"])
    shown = done.output.decode(errors="replace")
    assert done.exit_code == 0, shown
    assert offered in shown


def test_man_pages_are_in_order(reader: DockerContainer) -> None:
    pages = sorted(path.name for path in (EXAMPLES / "man").glob("*.1"))
    assert pages
    for page in pages:
        said = reader.exec(["mandoc", "-T", "lint", "-W", "warning", f"/examples/man/{page}"]).output.decode()
        # They have no date of their own: the version says of when they are.
        assert [line for line in said.splitlines() if "missing date" not in line] == []
        shown = reader.exec(["mandoc", "-T", "utf8", f"/examples/man/{page}"])
        assert shown.exit_code == 0
