"""The mutants: each function of the judge with one small change, as mutmut makes them."""

from __future__ import annotations

import ast
import difflib
import importlib
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "check_delayed_repl" / "judge"
MODULES = ("outcome", "jobs", "observed", "findings", "line", "straight", "trend", "window", "fold")
SEPARATOR = "\N{LATIN LETTER LATERAL CLICK}"
"""What mutmut puts between a class and its method."""


class Mutant(NamedTuple):
    function: str
    """As `trend._band` or `fold.Fold.add`."""
    old: str
    """What was changed, on one line..."""
    new: str
    """...and into what."""
    place: int
    """Which of a function's places where the same change can be made: 1 is the first."""
    code: CodeType
    defaults: tuple[object, ...] | None
    """The arguments' defaults, where they are constants."""
    keyword_defaults: dict[str, object]

    @property
    def text(self) -> str:
        """How a mutant is told from others, here and in survivors.md."""
        where = f" ({self.place})" if self.place > 1 else ""
        return f"{self.function}{where}\n- {self.old}\n+ {self.new}"

    def target(self) -> Callable[..., Any]:
        """The function that the mutant takes the place of."""
        module, *names = self.function.split(".")
        found: Any = importlib.import_module(f"check_delayed_repl.judge.{module}")
        for name in names:
            found = vars(found)[name]
        target: Callable[..., Any] = getattr(found, "__func__", found)
        return target

    def take_over(self) -> None:
        """Run in the function's place from now on, wherever it has been imported to."""
        target: Any = self.target()
        target.__code__ = self.code
        if self.defaults is not None:
            target.__defaults__ = self.defaults
        for name, value in self.keyword_defaults.items():
            target.__kwdefaults__[name] = value


def mutants_of(module: str, cache: Path) -> Iterator[Mutant]:
    """All mutants of a module, in the order of its functions."""
    source = (FOLDER / f"{module}.py").read_text()
    kept, original = cache / f"{module}.mutated.py", cache / f"{module}.original.py"
    if not kept.exists() or not original.exists() or original.read_text() != source:
        kept.write_text(_mutated(module, source))
        original.write_text(source)
    text = kept.read_text()
    codes = dict(_codes(compile(text, str(FOLDER / f"{module}.py"), "exec", dont_inherit=True)))
    functions = {node.name: node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}
    lines = text.splitlines()
    places: Counter[tuple[str, str, str]] = Counter()
    for name, node in functions.items():
        mangled, found, number = name.rpartition("__mutmut_")
        if not found or not number.isdigit():
            continue
        original_node = functions[f"{mangled}__mutmut_orig"]
        old, new = _change(_lines(lines, original_node), _lines(lines, node))
        names = mangled.split(SEPARATOR)[1:] if SEPARATOR in mangled else [mangled.removeprefix("x_")]
        function = ".".join((module, *names))
        places[function, old, new] += 1
        yield Mutant(function, old, new, places[function, old, new], codes[name], *_defaults(node))


def _mutated(module: str, source: str) -> str:
    """The module with every mutant of every function beside it. mutmut looks for its settings where it is called."""
    from mutmut.mutation.file_mutation import mutate_file_contents  # type: ignore[import-not-found,unused-ignore]

    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            Path("pyproject.toml").write_text('[tool.mutmut]\nsource_paths = ["."]\n')
            code: str = mutate_file_contents(f"{module}.py", source).code
        finally:
            os.chdir(here)
    return code


def _codes(code: CodeType) -> Iterator[tuple[str, CodeType]]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant.co_name, constant
            yield from _codes(constant)


def _lines(lines: list[str], node: ast.FunctionDef) -> list[str]:
    """A function's lines, less its name."""
    first, *rest = lines[node.lineno - 1 : node.end_lineno]
    return [first.partition("(")[2], *rest]


def _change(old: list[str], new: list[str]) -> tuple[str, str]:
    """The lines that differ, each side on one line."""
    before: list[str] = []
    after: list[str] = []
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            before += old[i1:i2]
            after += new[j1:j2]
    return " ".join(" ".join(before).split()), " ".join(" ".join(after).split())


def _defaults(node: ast.FunctionDef) -> tuple[tuple[object, ...] | None, dict[str, object]]:
    given = node.args.defaults
    plain: tuple[object, ...] = tuple(d.value for d in given if isinstance(d, ast.Constant))
    keywords: dict[str, object] = {
        argument.arg: default.value
        for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
        if isinstance(default, ast.Constant)
    }
    return plain if given and len(plain) == len(given) else None, keywords
