"""Which constants rest as indices on a target, and which do not.

A palette is a promise of the file; whether memory sees it is the machine's to say. Without a
decompression unit, or with one that does not take a palette, a constant rests as plain i8 codes.
"""

from collections.abc import Sequence
from dataclasses import replace

from nnaq.ir.graph import Graph
from nnaq.ir.types import TensorType
from nnaq.targets.target import Target

NAMED = 3


def at_rest(kind: TensorType, target: Target) -> TensorType:
    """The type of a value as it rests in the target's memories: without a palette it cannot expand."""
    if kind.palette is None or refuses_palette(kind, target) is None:
        return kind
    return replace(kind, palette=None)


def refuses_palette(kind: TensorType, target: Target) -> str | None:
    """Why a constant's palette is not expanded, or None if it is, or if there is none."""
    if kind.palette is None:
        return None
    if target.decompression is None:
        return "does not decompress indices"
    return target.decompression.refusal(kind.palette)


def undecompressed(graph: Graph, target: Target) -> list[str]:
    """A sentence for every reason why constants with a palette rest as plain codes on a target."""
    names: dict[str, list[str]] = {}
    for name in sorted(graph.constants):
        reason = refuses_palette(graph.types[name], target)
        if reason is not None:
            names.setdefault(reason, []).append(name)
    return [
        f"{_listed(found)} {'rests' if len(found) == 1 else 'rest'} as plain 8-bit codes: "
        f"target {target.name!r} {reason}"
        for reason, found in names.items()
    ]


def _listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(map(repr, names[:NAMED]))
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"
