"""Which layer lost the accuracy: the error of every value, and how much of it its own layer added.

    sqnr_db   10 log10( Σ real² / Σ (integer - real)² )      against the float model: all error so far
    added_db  10 log10( Σ real² / Σ (integer - local)² )     local: the float operator applied to the
              integers' reals of its operands, with the float weights: only this layer's error

Higher is better; a value without any error is `exact` and has no figure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from nnaq.interpret import run
from nnaq.ir.graph import Graph
from nnaq.ir.op import lookup
from nnaq.kernels.boundary import dequantize_array


@dataclass(frozen=True)
class LayerError:
    """The error of a node's first result, or of an input's quantiser.

    `exact`: there is no error at all, or nothing was compared.
    """

    name: str
    value: str
    op: str
    sqnr_db: float | None
    added_db: float | None

    @property
    def exact(self) -> bool:
        return self.sqnr_db is None


@dataclass
class _Sums:
    """Running sums of squares over the recordings."""

    signal: float = 0.0
    error: float = 0.0
    added: float = 0.0


def decibel(signal: float, error: float) -> float | None:
    """10 log10(signal / error); None where there is no error."""
    if error == 0:
        return None
    return float(10 * np.log10(max(signal, 1e-30) / error))


def codes_of(integer: Graph, value: str) -> str | None:
    """The integer value that stands for a value of the real graph, if it was kept apart."""
    for name in (f"{value}.codes", value):
        if name in integer.types and integer.types[name].quant is not None and name not in integer.constants:
            return name
    return None


def layer_errors(
    real: Graph, integer: Graph, recordings: Iterable[Mapping[str, np.ndarray]]
) -> tuple[LayerError, ...]:
    """Errors of all layers of a real graph against its integer graph, worst sqnr_db first.

    Each recording is run from the initial states as a whole; give stretches of bounded length.
    """
    layers = {node.outputs[0]: (node.name, node.op) for node in real.nodes}
    layers |= {port.name: (port.name, "quantize") for port in real.inputs}
    sums = {value: _Sums() for value in layers if input_codes(integer, value) or codes_of(integer, value)}
    for inputs in recordings:
        _Comparison(real, integer, inputs).add_to(sums)
    found = [_layer(*layers[value], value, total) for value, total in sums.items()]
    return tuple(sorted(found, key=lambda e: np.inf if e.sqnr_db is None else e.sqnr_db))


def _layer(name: str, op: str, value: str, total: _Sums) -> LayerError:
    sqnr, added = decibel(total.signal, total.error), decibel(total.signal, total.added)
    return LayerError(name, value, op, sqnr, added)


def input_codes(integer: Graph, port: str) -> str | None:
    """The codes of an input port."""
    return next((n.outputs[0] for n in integer.readers.get(port, ()) if n.op == "quantize"), None)


def _power(array: np.ndarray) -> float:
    """Sum of squares of an array that nobody needs afterwards: its memory takes the squares."""
    array *= array
    return float(array.sum())


@dataclass
class _Comparison:
    """One recording through both graphs."""

    real: Graph
    integer: Graph
    inputs: Mapping[str, np.ndarray]
    floats: Mapping[str, np.ndarray] = field(init=False)
    reals: dict[str, np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        values = [v for node in self.real.nodes for v in node.outputs]
        self.floats = {**self.inputs, **run(self.real, self.inputs, keep=values).values}
        names = {v: codes_of(self.integer, v) for v in (*values, *(s.input for s in self.real.states))}
        names |= {port.name: input_codes(self.integer, port.name) for port in self.real.inputs}
        codes = run(self.integer, self.inputs, keep=[n for n in names.values() if n]).values
        self.reals = {
            v: dequantize_array(codes[n], self.integer.types[n]) for v, n in names.items() if n in codes
        }

    def add_to(self, sums: Mapping[str, _Sums]) -> None:
        for value, total in sums.items():
            exact, found = self.floats[value].astype(np.float64), self.reals[value]
            total.error += _power(found - exact)
            total.signal += _power(exact)
            total.added += _power(found - self.local(value))

    def local(self, value: str) -> np.ndarray:
        """The float operator on the reals of the integer operands; an input is its own."""
        node = self.real.producer.get(value)
        if node is None:
            return self.floats[value]
        operands = (self.operand(v) if v else None for v in node.inputs)
        return np.asarray(lookup(node.op).real(np, node.attrs, *operands)[0], np.float64)

    def operand(self, value: str) -> np.ndarray:
        if value in self.real.constants:
            return self.real.constants[value]
        return self.reals[value] if value in self.reals else self.floats[value]
