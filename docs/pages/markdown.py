"""What every generated page is made of: headings, tables, fenced blocks, docstrings."""

import ast
import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def heading(title: str, lead: str) -> str:
    """The top of a generated page."""
    return (
        f"<!-- Written by docs/generate.py; change the code it comes from instead. -->\n# {title}\n\n{lead}\n"
    )


def markdown_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table; `|` inside cells is escaped."""
    columns = list(columns)
    lines = [columns, ["---"] * len(columns), *([c.replace("|", "\\|") for c in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def fenced(text: str, language: str = "text") -> str:
    return f"```{language}\n{text.rstrip()}\n```\n"


def docstring(what: Any) -> str:
    """The words of a module, class or function; a module's indented blocks stay indented."""
    if inspect.ismodule(what):  # from the source: Python 3.13 takes away what all lines share
        return (ast.get_docstring(ast.parse(inspect.getsource(what)), clean=False) or "").strip()
    return inspect.cleandoc(what.__doc__ or "")
