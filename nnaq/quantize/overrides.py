"""Overrides of a recipe, resolved against a graph: one choice per weight and per value."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nnaq.codebooks.choice import PaletteChoice
from nnaq.errors import RecipeError
from nnaq.ir.graph import Graph, Node
from nnaq.ir.op import lookup
from nnaq.quantize.recipe import Override, Recipe
from nnaq.quantize.training import SchemeChoice


@dataclass(frozen=True)
class Resolved:
    """What a recipe chooses for a graph.

    palettes: by weight. weight_bits: by weight, where it is not the recipe's own; 8 for every weight
    with a palette. dtypes: by value. schemes: by weight, where it is not the one of `[training]`.
    """

    palettes: Mapping[str, PaletteChoice]
    weight_bits: Mapping[str, int]
    dtypes: Mapping[str, str]
    schemes: Mapping[str, SchemeChoice]


def resolve(recipe: Recipe, graph: Graph) -> Resolved:
    """The choices for a simplified real graph: of two overrides the later wins, and `[palettes]` and
    `[values]` over both.

    Raises RecipeError for an override that is for nothing in the graph, and a palette of no weight.
    """
    palettes: dict[str, PaletteChoice] = {}
    weight_bits: dict[str, int] = {}
    dtypes: dict[str, str] = {}
    schemes: dict[str, SchemeChoice] = {}
    for override in recipe.overrides:
        weights, values = _meant(override, graph)
        if (override.activations is not None and not values) or (
            override.activations is None and not weights
        ):
            what = "weights" if override.activations is None else "results to choose a width for"
            raise RecipeError(
                f"recipe {recipe.name!r}: an override for {_whom(override)} matches no {what} in graph "
                f"{graph.name!r}; `nnaq show` lists its nodes and constants"
            )
        if override.activations is not None:
            dtypes |= dict.fromkeys(values, f"i{override.activations}")
        if override.scheme is not None:
            schemes |= dict.fromkeys(weights, override.scheme)
        for weight in weights:
            if override.palette is not None:
                palettes[weight], weight_bits[weight] = override.palette, 8
            elif override.weight_bits is not None:
                palettes.pop(weight, None)
                weight_bits[weight] = override.weight_bits
    _must_be_weights(recipe, graph)
    palettes |= recipe.palettes
    weight_bits |= dict.fromkeys(recipe.palettes, 8)
    dtypes |= {v: c.dtype for v, c in recipe.values.items()}
    return Resolved(palettes, weight_bits, dtypes, schemes)


def _must_be_weights(recipe: Recipe, graph: Graph) -> None:
    weights = {weight for node in graph.nodes for weight in weights_of(graph, node)}
    wrong = sorted(recipe.palettes.keys() - weights)
    if wrong:
        raise RecipeError(
            f"recipe {recipe.name!r}: palettes name {wrong[0]!r}, which is no weight of graph "
            f"{graph.name!r}; there are {', '.join(sorted(weights)) or 'none'}"
        )


def _whom(override: Override) -> str:
    pairs = (("name", override.name), ("regex", override.regex), ("op", override.op))
    return next(f"{word} {given!r}" for word, given in pairs if given is not None)


def _meant(override: Override, graph: Graph) -> tuple[list[str], list[str]]:
    """The weights and the results that an override is for, without those that an operator insists on."""
    nodes = [node for node in graph.nodes if _is_meant(override, node)]
    weights = {weight for node in nodes for weight in weights_of(graph, node)}
    weights |= {w for n in graph.nodes for w in weights_of(graph, n) if _names(override, w)}
    free = [(node.outputs, lookup(node.op).demands) for node in nodes]
    return sorted(weights), [v for outputs, held in free for i, v in enumerate(outputs) if ~i not in held]


def _is_meant(override: Override, node: Node) -> bool:
    return node.op == override.op or _names(override, node.name)


def _names(override: Override, name: str) -> bool:
    return name == override.name or (
        override.regex is not None and re.fullmatch(override.regex, name) is not None
    )


def weights_of(graph: Graph, node: Node) -> Iterator[str]:
    """The constants that a node reads as weights, by position."""
    for position in sorted(lookup(node.op).weights):
        name = node.inputs[position] if position < len(node.inputs) else ""
        if name in graph.constants:
            yield name
