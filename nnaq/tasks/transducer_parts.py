"""The three parts of a lowered transducer, at work: encoder, predictor and joint of one integer graph.

    x -> encoder -> f ┐
                      ├ joint -> codes of the logits
    y -> predictor -> g ┘

The parts are cut from one graph, so f and g leave as codes and arrive as the same codes: nothing is rounded
on the way. A search asks for them one frame and one label at a time; see nnaq.tasks.transducer_search.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nnaq.errors import DataError
from nnaq.interpret import Interpreter
from nnaq.ir.cut import cut
from nnaq.ir.graph import Graph

SOUND, LABELS, LOGITS = "x", "y", "output"
HEARD, READ = "hear", "read"  # where a transducer's graph is cut: the results of its two projections

State = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class PartGraphs:
    """The graphs of the parts. scale: what one step of a logit's code is worth."""

    encoder: Graph
    predictor: Graph
    joint: Graph
    scale: float


def part_graphs(graph: Graph) -> PartGraphs:
    """The parts of a streaming integer graph of a transducer. Raises DataError where it is none."""
    missing = [name for name in (SOUND, LABELS, HEARD, READ, LOGITS) if name not in graph.types]
    if missing:
        raise DataError(f"graph {graph.name!r} is no transducer of nnaq: it has no {', '.join(missing)}")
    codes = graph.producer[LOGITS].inputs[0]
    quant = graph.types[codes].quant
    if quant is None:
        raise DataError(f"graph {graph.name!r}: its logits are real, not codes; lower it whole")
    return PartGraphs(
        cut(graph, [SOUND], [HEARD], "encoder"),
        cut(graph, [LABELS], [READ], "predictor"),
        cut(graph, [HEARD, READ], [codes], "joint"),
        float(quant.scale[0]),
    )


class IntegerParts:
    """The parts on the integer kernels, for one thread. Values between them are codes as they are stored."""

    def __init__(self, graphs: PartGraphs) -> None:
        self.graphs, self.scale = graphs, graphs.scale
        self._encoder, self._predictor, self._joint = (
            Interpreter(graph) for graph in (graphs.encoder, graphs.predictor, graphs.joint)
        )
        self._codes = graphs.joint.outputs[0].name

    def reset(self) -> None:
        """Silence before the next frame."""
        self._encoder.reset()

    def hear(self, features: np.ndarray) -> np.ndarray:
        """Codes of f [T/r,J] of the next features float32 [T,F]; the encoder's states go on."""
        if not len(features):
            return np.zeros((0, 0), np.int8)
        return self._encoder.step({SOUND: features[:, None]}).outputs[HEARD][:, 0]

    def start(self) -> tuple[np.ndarray, State]:
        """(g, state) before anything was said."""
        self._predictor.reset()
        return self._step(0)

    def read(self, state: State, label: int) -> tuple[np.ndarray, State]:
        """(g, next state) after one more label; the state given stays as it is."""
        self._predictor.states = dict(state)
        return self._step(label)

    def logits(self, f: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Codes of the logits [V] at a frame f [J] and a text g [J]."""
        found = self._joint.step({HEARD: f[None, None], READ: g[None, None]})
        return found.outputs[self._codes].reshape(-1)

    def _step(self, label: int) -> tuple[np.ndarray, State]:
        found = self._predictor.step({LABELS: np.full((1, 1), label, np.float32)})
        return found.outputs[READ][0, 0], found.states
