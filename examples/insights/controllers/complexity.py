"""How many ways lead through the functions of the Python files that a commit touched."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Mapping

from karafka import Abort, before_enqueue

from controllers.application import ApplicationController
from history import python_files, sources
from models import Commit, Finding, Metric, Offense

COMPLEX = 10

Function = ast.FunctionDef | ast.AsyncFunctionDef
# Each of these is one more way through; `a and b and c` are two.
FORKS = (
    *(ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler),
    *(ast.Assert, ast.comprehension, ast.match_case),
)


def measure(commit: Commit, files: Mapping[str, bytes]) -> Iterator[Finding]:
    """For each file its most complex function; offenses for functions above 10, and for what is no Python."""
    for path, source in files.items():
        try:
            tree = _parsed(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            yield Offense.of(commit, "complexity.unreadable", f"cannot be parsed: {error}", path=path)
            continue
        functions = [node for node in ast.walk(tree) if isinstance(node, Function)]
        worst = 0
        for function in functions:
            ways = complexity(function)
            worst = max(worst, ways)
            if ways > COMPLEX:
                text = f"{function.name} has {ways} ways through"
                yield Offense.of(commit, "complexity.function", text, path=path, line=function.lineno)
        yield Metric.of(commit, "complexity.worst", worst, path=path)


def complexity(function: Function) -> int:
    """McCabe's cyclomatic complexity, functions within it not counted: they have their own."""
    ways = 1
    inside: list[ast.AST] = list(function.body)
    while inside:
        node = inside.pop()
        if isinstance(node, Function):
            continue
        if isinstance(node, FORKS):
            ways += 1
        elif isinstance(node, ast.BoolOp):
            ways += len(node.values) - 1
        inside.extend(ast.iter_child_nodes(node))
    return ways


def _parsed(source: bytes) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other people's escapes in other people's strings
        return ast.parse(source)


class ComplexityController(ApplicationController):
    @before_enqueue
    def only_python(self) -> None:
        if not python_files(self.params):
            raise Abort("no Python file")

    def perform(self) -> None:
        self.respond_with(measure(self.params, sources(self.params)))
