"""The generated completion and man pages in the hands of the programs that read them: zsh and mandoc."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from testcontainers.core.container import DockerContainer

from hatch_build import documents

from .monitoring import monitoring_image
from .servers import Kit

pytestmark = pytest.mark.monitoring

CAPTURE = r"""
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "stty cols 200; fpath=(/share/zsh/site-functions \$fpath)"
zpty -w shell "autoload -U compinit; compinit -u -D; print READY"
while zpty -r shell line; do [[ $line == READY* ]] && break; done
zpty -n -w shell "$1"$'\t'
while zpty -r shell line "$2"; do print -r -- "$line"; break; done
"""
"""Types into an interactive zsh, asks for completion, and prints what is shown until something is offered."""


@pytest.fixture(scope="module")
def reader(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerContainer]:
    folder = tmp_path_factory.mktemp("prefix")
    for name, text in documents().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    container = (
        DockerContainer(monitoring_image())
        .with_volume_mapping(str(folder / "share"), "/share", "ro")
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
    ],
)
def test_zsh_offers(reader: DockerContainer, typed: str, offered: str) -> None:
    done = reader.exec(["timeout", "20", "zsh", "-f", "-c", CAPTURE, "zsh", typed, f"*{offered}*"])
    shown = done.output.decode(errors="replace")
    assert done.exit_code == 0, shown
    assert offered in shown


def test_man_pages_can_be_read(reader: DockerContainer) -> None:
    pages = reader.exec(["sh", "-c", "ls /share/man/*/*"]).output.decode().split()
    assert len(pages) > 8
    for page in pages:
        assert reader.exec(["mandoc", "-T", "utf8", page]).exit_code == 0
    said = reader.exec(["mandoc", "-T", "lint", "-W", "warning", pages[-1]]).output.decode()
    # It has no date of its own: the version says of when it is.
    assert [line for line in said.splitlines() if "missing date" not in line] == []
