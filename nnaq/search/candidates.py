"""What a search tries: the palettes that words name, and the weights that can take them."""

from collections.abc import Sequence
from itertools import product
from typing import Any

from nnaq.codebooks.choice import PaletteChoice
from nnaq.crossing import Lowering
from nnaq.errors import NnaqError, PassError
from nnaq.ir.graph import Graph, Node
from nnaq.ir.types import Palette
from nnaq.kernels.boundary import code_type
from nnaq.passes.assign_codebooks import channel_axis, shared_rows
from nnaq.pipeline import host_weights
from nnaq.quantize.overrides import weights_of
from nnaq.targets import Target


def choices_of(
    target: Target, bits: str | None, granularity: str, method: str, weighting: str, zero: str
) -> tuple[PaletteChoice, ...]:
    """All palettes that lists separated by commas name; `bits` None: all that the target takes.

    Raises NnaqError for a target that keeps no indices at rest, or not these.
    """
    if target.decompression is None:
        raise NnaqError(
            f"target {target.name!r} does not decompress indices, so fewer bits save nothing there; "
            "take --target edge8-sub8, or give your target a [decompression] table"
        )
    widths = _widths(bits) if bits is not None else target.decompression.index_bits
    words = (_words(text) for text in (granularity, method, weighting, zero))
    found = tuple(
        PaletteChoice(width, *_sharing(shared), how, weigh, zeros)  # type: ignore[arg-type]
        for shared, how, weigh, zeros in product(*words)
        for width in widths
    )
    for choice in found:
        refused = _refusal(choice, target)
        if refused:
            raise NnaqError(f"target {target.name!r} {refused}; leave that out of the search")
    return tuple(dict.fromkeys(found))


def _refusal(choice: PaletteChoice, target: Target) -> str | None:
    """Why the target keeps no palette of this kind as indices."""
    assert target.decompression is not None
    return target.decompression.refusal(
        Palette(choice.bits, ((1,),), 0, 0 if choice.zero == "mapped" else None)
    )


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _widths(text: str) -> list[int]:
    """Bits of an index, such as `2,3,4`."""
    words = _words(text)
    if not all(word.isdigit() for word in words):
        raise NnaqError(f"--bits takes widths from 1 to 8 separated by commas, such as 2,3,4, found {text!r}")
    return [int(word) for word in words]


def _sharing(word: str) -> tuple[Any, int | None]:
    """Granularity and group size: `per_group:8` has one."""
    name, _, size = word.partition(":")
    if size and not size.isdigit():
        raise NnaqError(f"--granularity takes per_group:ROWS with a whole number, found {word!r}")
    return name, int(size) if size else None


def candidates(lowering: Lowering, choices: Sequence[PaletteChoice]) -> dict[str, list[PaletteChoice]]:
    """The palettes that every 8-bit weight on the accelerator can take.

    Weights that the recipe gives a palette keep it; those that only the host reads stay real.
    """
    crossing = lowering.crossing
    host = host_weights(crossing.real, crossing.islands)
    rounded = {node.inputs[0]: node for node in crossing.fake.nodes if node.op == "fake_quantize"}
    weights = {w: None for node in crossing.real.nodes for w in weights_of(crossing.real, node)}
    found: dict[str, list[PaletteChoice]] = {}
    for weight in weights:
        node = rounded.get(weight)
        if node is None or node.attrs["dtype"] != "i8" or weight in crossing.options.palettes:
            continue
        if weight in host:
            continue
        found[weight] = [choice for choice in choices if _admits(crossing.fake, node, choice)]
    return {weight: admitted for weight, admitted in found.items() if admitted}


def _admits(fake: Graph, node: Node, choice: PaletteChoice) -> bool:
    """Whether a weight's codes can come from tables, and from tables shared so."""
    name = node.inputs[0]
    try:
        channel_axis(name, code_type(node.attrs, fake.types[name].shape))
        shared_rows(fake, node, choice)
    except PassError:
        return False
    return True
