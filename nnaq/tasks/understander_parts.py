"""The two parts of a lowered model with context: what runs once a turn, and what runs once a word.

    acts, said -> context -> keys, values, kept while the turn lasts ┐
                                                                      ├ words -> codes of the scores
                              first, second, share ──────────────────┘

Both are cut from one graph, so keys and values leave as codes and arrive as the same codes: they are computed
once a turn, and nothing is rounded on the way. A model without context has the second part alone. NumPy only.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nnaq.errors import DataError
from nnaq.interpret import Interpreter, run
from nnaq.ir.cut import cut
from nnaq.ir.graph import Graph
from nnaq.tasks.conversation import Answer
from nnaq.tasks.lexicon import INPUTS

SCORES = "output"
KEPT = ("context.key", "context.value")
TURNS = {"first": 1, "second": 1, "acts": 1, "said": 2, "share": 1}  # the axis of turns side by side


@dataclass(frozen=True, eq=False)
class UnderstanderParts:
    """The graphs; context: None where there is none. scale: what one step of a score's code is worth."""

    context: Graph | None
    words: Graph
    scale: float


def understander_parts(graph: Graph) -> UnderstanderParts:
    """The parts of an integer graph, a stream or over whole utterances. Raises DataError where it is none."""
    if SCORES not in graph.types or any(name not in graph.types for name in INPUTS[:2]):
        raise DataError(
            f"graph {graph.name!r} is no model of words in their dialogue: it lacks first and second"
        )
    codes = graph.producer[SCORES].inputs[0]
    quant = graph.types[codes].quant
    if quant is None:
        raise DataError(f"graph {graph.name!r}: its scores are real, not codes; lower it whole")
    kept = [name for name in KEPT if name in graph.types]  # an average needs no keys
    scale = float(quant.scale[0])
    if not kept:
        return UnderstanderParts(None, cut(graph, INPUTS[:2], [codes], "words"), scale)
    context = cut(graph, ["acts", "said"], kept, "context")
    return UnderstanderParts(
        context, cut(graph, ["first", "second", "share", *kept], [codes], "words"), scale
    )


class Conversation:
    """A stream of turns on the integer kernels: `begin` a turn, then `hear` its words as they come."""

    def __init__(self, parts: UnderstanderParts) -> None:
        self.parts = parts
        self._words = Interpreter(parts.words)
        self._context = Interpreter(parts.context) if parts.context is not None else None
        self._codes = parts.words.outputs[0].name
        self._kept: dict[str, np.ndarray] = {}

    def begin(self, inputs: Mapping[str, np.ndarray]) -> None:
        """A new turn: its keys and values are computed, once, and nothing was heard of it yet."""
        self._words.reset()
        if self._context is None:
            return
        made = self._context.step({name: inputs[name] for name in ("acts", "said")}).outputs
        self._kept = {**made, "share": inputs["share"]}

    def hear(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Codes of the scores [T,1,V] of the next words [T,1]."""
        return self._words.step({"first": first, "second": second, **self._kept}).outputs[self._codes]


def stream_answer(parts: UnderstanderParts) -> Answer:
    """The parts as nnaq.tasks.conversation asks them: one turn after the other, scores float32 [T,N,V]."""
    turns = Conversation(parts)

    def answered(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        found = []
        for place in range(inputs["first"].shape[1]):
            one = {name: np.take(array, [place], TURNS[name]) for name, array in inputs.items()}
            turns.begin(one)
            found.append(turns.hear(one["first"], one["second"]))
        return np.concatenate(found, axis=1).astype(np.float32) * np.float32(parts.scale)

    return answered


def integer_answer(graph: Graph) -> Answer:
    """The integers over whole utterances, as nnaq.tasks.conversation asks them: scores float32 [T,N,V]."""
    names = [port.name for port in graph.inputs]

    def answered(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        found = run(graph, {name: np.asarray(inputs[name], np.float32) for name in names})
        return np.asarray(found.outputs[SCORES], np.float32)

    return answered
