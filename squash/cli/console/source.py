"""The text of source files: from this machine where it is readable, else from the debug server."""

import ast
import bisect
from pathlib import Path

LARGEST = 4 * 1024 * 1024
"""Bytes of a source file; a longer one is none that a person wrote."""

_PYTHON = (".py", ".pyi")
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def read_here(path: str) -> list[str] | None:
    """The lines of a file on this machine; None when there is none. What is not UTF-8 is shown as well as it can be."""
    if not path.startswith("/"):
        return None
    try:
        file = Path(path)
        if not file.is_file() or file.stat().st_size > LARGEST:
            return None
        return lines(file.read_text(encoding="utf-8", errors="backslashreplace"))
    except OSError:
        return None


def lines(text: str) -> list[str]:
    """Only line ends count, as for a compiler: a form feed within a line does not end it."""
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")


def function_around(text: list[str], line: int, path: str) -> tuple[int, int]:
    """First and last line of the innermost function around a line; the whole file where that cannot be told."""
    whole = 1, len(text)
    if not path.endswith(_PYTHON):
        return _braced(text, line) or whole
    found = _function(text, line)
    return (_first(found), found.end_lineno or found.lineno) if found else whole


def parameters(text: list[str], line: int, path: str) -> list[str] | None:
    """The names of the parameters of the function around a line of Python; None where that cannot be told."""
    found = _function(text, line) if path.endswith(_PYTHON) else None
    if not found:
        return None
    given = found.args
    named = [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg]
    return [each.arg for each in named if each]


def _function(text: list[str], line: int) -> _Function | None:
    try:
        tree = ast.parse("\n".join(text))
    except (SyntaxError, ValueError, RecursionError):
        return None
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, _Function) and _first(node) <= line <= (node.end_lineno or node.lineno)
    ]
    return max(around, key=_first, default=None)


def _first(node: _Function) -> int:
    return min([node.lineno, *(each.lineno for each in node.decorator_list)])


def _braced(text: list[str], line: int) -> tuple[int, int] | None:
    """In languages with braces: from the line at the margin that begins it to the brace at the margin that ends it."""
    ends = [number for number, each in enumerate(text, 1) if each.startswith("}")]
    index = bisect.bisect_left(ends, line)
    if index == len(ends):
        return None
    after = ends[index - 1] if index else 0
    starts = (n for n in range(after + 1, ends[index]) if text[n - 1][:1].strip() and text[n - 1][:1] not in "#/{")
    first = next((n for n in starts if n <= line), None)
    return (first, ends[index]) if first else None
