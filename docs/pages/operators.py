"""The page of operators, from the operator table and the docstrings of kernels/."""

import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from textwrap import dedent
from types import ModuleType

import nnaq.kernels
from nnaq.ir.op import Op, table
from pages.markdown import docstring, fenced, heading, markdown_table

Form = tuple[frozenset[str], ...]


def families() -> Iterator[tuple[ModuleType, list[Op]]]:
    """The modules of kernels/ with the operators that each of them means, in order of name."""
    for family in nnaq.kernels.__all__:
        module = import_module(f"nnaq.kernels.{family}")
        yield module, [op for op in table().values() if module_of(op) == module.__name__]


def module_of(op: Op) -> str:
    """The family of an operator: where its real meaning stands (perhaps in a partial), or its crossing."""
    places = [str(getattr(verb, "func", verb).__module__) for verb in (op.real, op.prepare)]
    return next(name for name in places if name.split(".")[-1] in nnaq.kernels.__all__)


def collapsed(forms: Iterable[str], operands: tuple[str, ...]) -> list[str]:
    """Integer forms with `a|b` where two forms differ in one place only, and `…` where operands repeat."""
    if any(operand.startswith("*") for operand in operands):
        forms = dict.fromkeys(f"{form.split()[0]} … -> {form.split()[-1]}" for form in forms)
    rows: list[Form] = [tuple(frozenset([word]) for word in form.split()) for form in forms]
    while merged := next(merges(rows), None):
        rows = merged
    return [" ".join("|".join(sorted(words, key=by_width)) for words in row) for row in rows]


def merges(rows: list[Form]) -> Iterator[list[Form]]:
    """Every way to join two rows that differ in one place."""
    for i, row in enumerate(rows):
        for j in range(i + 1, len(rows)):
            other = rows[j]
            places = [k for k, pair in enumerate(zip(row, other, strict=False)) if pair[0] != pair[1]]
            if len(row) == len(other) and len(places) == 1:
                k = places[0]
                joined = (*row[:k], row[k] | other[k], *row[k + 1 :])
                yield [*rows[:i], joined, *rows[i + 1 : j], *rows[j + 1 :]]


def by_width(dtype: str) -> tuple[int, str]:
    return int(dtype[1:]) if dtype[1:].isdigit() else 0, dtype


def operators() -> str:
    lead = dedent("""\
        What nnaq can lower. An operator is one object with a meaning over the reals and an integer form;
        every multiplier, shift and table of the integer form is a constant operand that follows the real
        operands. `x?` is optional, `*xs` repeats, `i8|i16` is either. `nnaq ops` prints this list,
        `nnaq ops --json` in full. Symbols and roundings are explained in [numerics.md](numerics.md).
        Families come first, then each with its formulas in full and how far its integers may be from
        the reals.
        """)
    parts = [heading("Operators", lead)]
    parts += [f"\n{overview(module, ops)}" for module, ops in families() if ops]
    for module, ops in families():
        parts.append(f"\n## kernels/{module.__name__.split('.')[-1]}.py\n\n{fenced(docstring(module))}")
        parts += [f"\n### {op.name}\n\n{described(op)}" for op in ops]
    return "".join(parts)


def overview(module: ModuleType, ops: Iterable[Op]) -> str:
    """A family in one line, and a row per operator."""
    name = f"kernels/{module.__name__.split('.')[-1]}.py"
    meaning = " ".join(docstring(module).split("\n\n")[0].split())
    rows = [
        (f"[`{op.name}`](#{op.name})", f"`{op.name}({', '.join(op.operands)})`", f"`{op.doc}`") for op in ops
    ]
    link = f"[{name}](#{re.sub('[^a-z_]', '', name)})"
    return f"{link}: {meaning}\n\n{markdown_table(('operator', 'operands', 'formula'), rows)}"


def described(op: Op) -> str:
    """One operator in a few lines."""
    forms = "\n".join(collapsed(op.forms, op.operands)) or "none: it stays real"
    facts = ["composite: it equals a normative graph of primitives" if op.is_composite else "primitive"]
    if op.moves:
        facts.append("moves codes: operands and results share one code type, nothing is rounded")
    facts += [f"one code type for {listed(op, tie)}" for tie in op.ties]
    facts += [
        f"weights: `{name_of(op, at)}`, one scale per entry of axis {axis}" for at, axis in op.weights.items()
    ]
    facts += [
        f"`{name_of(op, at)}` insists on {demand.replace('_', ' ')}" for at, demand in op.demands.items()
    ]
    return f"`{op.name}({', '.join(op.operands)})`: {'; '.join(facts)}.\n\n{fenced(forms)}"


def listed(op: Op, positions: Iterable[int]) -> str:
    return ", ".join(name_of(op, position) for position in positions)


def name_of(op: Op, position: int) -> str:
    """An operand by position; results count as ~0, ~1, …"""
    return f"result {~position}" if position < 0 else op.operands[position].rstrip("?")
