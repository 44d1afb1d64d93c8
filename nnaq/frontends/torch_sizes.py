"""Sizes of an exported torch program in the names of the graph, and values that stand for sizes.

torch calls the open axes of its inputs s0, s77, … and writes every other size as an expression of
these. Here each becomes a dimension of the graph (`T`, `2*T-1`); where an operator needs a size as
a value it gets an axis to count along, cut or tiled from one that is there.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch

from nnaq.errors import GraphError
from nnaq.frontends.ports import Unsupported
from nnaq.ir.build import Builder
from nnaq.ir.dims import Dim, Shape, canonical, evaluate, substitute, subtract, symbols
from nnaq.ir.op import Attr

_CALL = re.compile(r"\b(?:Python)?Mod\(([^()]*(?:\([^()]*\)[^()]*)*), (\d+)\)")
_LARGEST_STEP = 32
_PROBES = (7, 12, 25, 58, 131)  # sizes under which dimensions are compared


@dataclass
class Sizes:
    """Dimensions by torch's symbols, and the axes whose sizes are known.

    names  torch's symbol -> its dimension in the graph
    """

    builder: Builder
    names: dict[str, Dim] = field(default_factory=dict)
    _made: dict[Dim, str] = field(default_factory=dict)

    def learn(self, size: int | torch.SymInt, dim: Dim) -> None:
        """An axis of an input: `dim` is what torch writes as `size`, a symbol or a multiple of one."""
        if isinstance(size, int) or isinstance(dim, int):
            return
        text = str(size.node.expr)
        match = re.fullmatch(r"(?:(\d+)\*)?([a-z]\d+)([+-]\d+)?", text.replace(" ", ""))
        if match and match[2] not in self.names:
            self.names[match[2]] = canonical(f"({dim}-({match[3] or 0}))//{match[1] or 1}")

    def count_in_groups(self, names: Iterable[str], step: int, less: int) -> None:
        """Let each name N of the graph stand for `step*N - less` from now on, in every size known so far."""
        names = frozenset(names)
        self.names = {symbol: in_groups(dim, names, step, less) for symbol, dim in self.names.items()}
        for value, kind in self.builder.types.items():
            shape = tuple(in_groups(dim, names, step, less) for dim in kind.shape)
            self.builder.types[value] = kind.with_shape(shape)

    def knows(self, size: int | torch.SymInt) -> bool:
        """Whether all of torch's symbols in a size have names in the graph."""
        found = set(re.findall(r"\b[a-z]\d+\b", "" if isinstance(size, int) else str(size.node.expr)))
        return bool(found) and found <= self.names.keys()

    def dim(self, size: int | torch.SymInt) -> Dim:
        """A size of torch's as a dimension of the graph; torch's own words where it cannot be one."""
        if isinstance(size, int):
            return size
        text = before = str(size.node.expr)
        while (text := _CALL.sub(r"((\1)-(\2)*((\1)//(\2)))", text)) != before:
            before = text
        text = re.sub(r"\b[a-z]\d+\b", lambda m: f"({self.names.get(m[0], m[0])})", text)
        try:
            return canonical(text)
        except GraphError:
            return text

    def shape(self, tensor: torch.Tensor) -> Shape:
        return tuple(map(self.dim, tensor.shape))

    def axis(self, dim: Dim) -> tuple[str, int]:
        """A value and the axis of it that has the size `dim`; made from another one if need be."""
        for value, kind in self.builder.types.items():
            if value not in self.builder.constants and dim in kind.shape:
                return value, kind.shape.index(dim)
        return self._built(dim), 0

    def _built(self, dim: Dim) -> str:
        """A counting row of `dim` entries, tiled, padded or cut from one along an axis of an input."""
        for value, kind in list(self.builder.types.items()):
            for axis, base in enumerate(kind.shape):
                found = None if isinstance(base, int) else _recipe(dim, base)
                if value in self.builder.constants or found is None:
                    continue
                row = self._step("arange", [value], {"axis": axis, "start": 0, "step": 1})
                for op, attrs in found:
                    row = self._step(op, [row], attrs)
                return row
        raise Unsupported(f"nothing in the graph has the size {dim!r}", "give its axes whole sizes")

    def _step(self, op: str, inputs: list[str], attrs: Mapping[str, Attr]) -> str:
        return self.builder.node(op, inputs, attrs, [f"size.{op}"], source="size")[0]

    def count(self, dim: Dim, start: int = 0, step: int = 1) -> str:
        """A row of `dim` whole numbers: start, start + step, …; the same row once."""
        key = f"{dim} {start} {step}"
        if key not in self._made:
            value, axis = self.axis(dim)
            self._made[key] = self._step("arange", [value], {"axis": axis, "start": start, "step": step})
        return self._made[key]

    def number(self, dim: Dim) -> str:
        """A size as a whole number, in a value of one entry."""
        key = f"number {dim}"
        if key not in self._made:
            row = self.count(dim, start=1)
            self._made[key] = self._step("reduce_max", [row], {"axes": (0,), "keepdims": True})
        return self._made[key]

    def run(self, start: Dim, size: Dim, step: int = 1, table: int = 0) -> str:
        """A row of `size` whole numbers from `start` on, which may depend on open axes.

        Places in a table of `table` entries count from its end where they go down with an open
        size, so that a gather refuses those before the first instead of taking the last.
        """
        if isinstance(start, int):
            return self.count(size, start, step)
        last = canonical(f"({start})+({step})*(({size})-1)")
        if isinstance(last, int):
            return self._step("reverse", [self.count(size, from_end(last, table), -step)], {"axes": (0,)})
        for part in self._open_sizes():
            middle = canonical(f"({start})+({step})*({part})")
            if isinstance(middle, int):
                rest = subtract(size, part)
                head = self._step(
                    "reverse", [self.count(part, from_end(middle - step, table), -step)], {"axes": (0,)}
                )
                return self._step("concat", [head, self.count(rest, middle, step)], {"axis": 0})
        raise Unsupported(f"it counts from {start!r} to {last!r}", "give its axes whole sizes")

    def _open_sizes(self) -> Iterable[Dim]:
        kinds = (kind for value, kind in self.builder.types.items() if value not in self.builder.constants)
        return dict.fromkeys(dim for kind in kinds for dim in kind.shape if isinstance(dim, str))


def _recipe(dim: Dim, base: Dim) -> list[tuple[str, dict[str, Attr]]] | None:
    """Steps from a row of `base` entries to one of `dim`: tile, then pad or cut; or every k-th entry."""
    for factor in range(1, 5):
        rest = _difference(dim, f"{factor}*({base})")
        if isinstance(rest, int):
            tiled: list[tuple[str, dict[str, Attr]]] = [("tile", {"repeats": (factor,)})] * (factor > 1)
            if rest > 0:
                return [*tiled, ("pad", {"pads": (0, rest), "mode": "constant"})]
            return tiled if rest == 0 else [*tiled, ("slice", part(0, -rest, None))]
    for step in range(2, _LARGEST_STEP):
        for more in range(1 - step, step):
            if _difference(f"(({base})+{more + step - 1})//{step}", dim) == 0:
                ahead: list[tuple[str, dict[str, Attr]]] = []
                if more > 0:
                    ahead = [("pad", {"pads": (0, more), "mode": "constant"})]
                return [*ahead, ("slice", part(0, max(-more, 0), None, step))]
    return None


def _difference(dim: Dim, other: Dim) -> Dim:
    """dim - other where both are arithmetic of the same names, else the text of it."""
    try:
        return subtract(dim, other)
    except GraphError:
        return f"{dim}-({other})"


def part(axis: int, start: int, end: int | None, step: int = 1) -> dict[str, Attr]:
    """Attributes of a slice of one axis."""
    last = 2**31 - 1 if end is None else end
    return {"starts": (start,), "ends": (last,), "axes": (axis,), "steps": (step,)}


def from_end(place: int, table: int) -> int:
    """A place in a table of `table` entries, counted from its end.

    >>> from_end(3, 40), from_end(-1, 40)
    (-37, -1)
    """
    return place - table if place >= 0 else place


def in_groups(dim: Dim, names: frozenset[str], step: int, less: int) -> Dim:
    """A size with `step*N - less` for each name N of `names`.

    >>> in_groups("(S+T)//2", frozenset("T"), 2, 0), in_groups("T+1", frozenset("T"), 4, 1)
    ('(S//2)+T', '4*T')
    """
    return substitute(dim, {name: f"{step}*{name}-{less}" for name in names})


def always(size: Dim, other: Dim) -> bool:
    """Whether two sizes agree under every binding tried of the names they depend on."""
    try:
        names = sorted(symbols(size) | symbols(other))
        bindings = [{name: probe + place for place, name in enumerate(names)} for probe in _PROBES]
        return all(evaluate(size, b) == evaluate(other, b) for b in bindings)
    except GraphError:
        return False
