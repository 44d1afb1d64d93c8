"""The code type of every value of a real graph: from ranges, from what operators insist on, from a file.

A class of values (`code_classes`) has one type. It comes from, in this order: the codes that an
imported file brought along; what an operator insists on (`Op.demands`); what follows exactly from
the operands; the range that calibration saw, at the dtype that was chosen.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from nnaq.errors import PassError
from nnaq.ir.graph import Graph, Node
from nnaq.ir.op import Op, Signature, lookup
from nnaq.ir.types import Quant, TensorType
from nnaq.quantize.calibrate import Ranges
from nnaq.quantize.code_classes import Demand, code_classes, demands
from nnaq.quantize.scales import FLAG, PROBABILITY, WHOLE, activation_quant, weight_type

SUMS = ("add", "sub", "mul")
"""Operators that take 32-bit operands where the result is exact; beside reals a rescale of 32 bits to
much finer steps would leave its accumulator."""
SMALL_WHOLE = TensorType("i16", (), Quant((1.0,)))
"""Whole numbers beside reals, saturated to 16 bits: a position beyond 32,767 stays there."""


@dataclass(frozen=True)
class Choice:
    """What decides the codes.

    ranges: what calibration saw. activations: dtype of activations (`i8` or `i16`). dtypes: other
    dtypes by value; `i32` keeps the sums of a product as they are. exact: values whose range was
    chosen, not observed. weight_bits: 8 or 4; weights: other widths by constant. islands: names of
    nodes that stay real. codes: code types by value or constant that a quantised file brought along.
    """

    ranges: Ranges
    activations: str = "i8"
    dtypes: Mapping[str, str] = field(default_factory=dict)
    exact: frozenset[str] = frozenset()
    weight_bits: int = 8
    weights: Mapping[str, int] = field(default_factory=dict)
    islands: frozenset[str] = frozenset()
    codes: Mapping[str, TensorType] = field(default_factory=dict)


@dataclass(frozen=True)
class CodeTypes:
    """What every value is in integers.

    types      by value; biases and other real operands have none
    unrounded  results whose codes follow exactly from the operands' codes
    host       results that only the host reads, in float
    converted  the codes in which a node reads an operand that has others, by node and position
    """

    types: Mapping[str, TensorType]
    unrounded: frozenset[str]
    host: frozenset[str]
    converted: Mapping[tuple[str, int], TensorType]


def choose_types(graph: Graph, choice: Choice) -> CodeTypes:
    """The code types of a real graph. Raises PassError for choices that the graph cannot follow."""
    unknown = sorted((choice.dtypes.keys() | choice.exact) - graph.types.keys())
    if unknown:
        raise PassError(f"dtypes name {', '.join(unknown)}, which graph {graph.name!r} does not have")
    return _Chooser(graph, choice).chosen()


def host_values(graph: Graph, islands: frozenset[str]) -> frozenset[str]:
    """Results of islands that nothing but islands and output ports read: they stay float."""
    states = {state.output for state in graph.states}
    return frozenset(
        value
        for node in graph.nodes
        if node.name in islands
        for value in node.outputs
        if value not in states and all(r.name in islands for r in graph.readers.get(value, ()))
    )


class _Chooser:
    """Walks the graph in order and gives each class of values its code type."""

    def __init__(self, graph: Graph, choice: Choice) -> None:
        self.graph, self.choice = graph, choice
        self.classes, self.demands = code_classes(graph), demands(graph)
        self.members: dict[str, list[str]] = {}
        for value, group in self.classes.items():
            self.members.setdefault(group, []).append(value)
        self.dtypes = {self.classes[v]: dtype for v, dtype in choice.dtypes.items()}
        activations = graph.types.keys() - graph.constants.keys()
        held = {self.classes[v]: choice.codes[v] for v in sorted(choice.codes.keys() & activations)}
        self.by_class = {group: kind.with_shape(()) for group, kind in held.items()}
        left = (node for node in graph.nodes if node.name in choice.islands)
        self.host = host_values(graph, choice.islands)
        self.rounded = {self.classes[v] for node in left for v in node.outputs}
        self.unrounded: set[str] = set()
        self.converted: dict[tuple[str, int], TensorType] = {}

    def chosen(self) -> CodeTypes:
        found = {v: self.of(v) for v in sorted(self.graph.sources - self.graph.constants.keys())}
        for node in self.graph.nodes:
            found |= self.constants(node, found)
            exact = self.exact(node, found)
            self.convert(node, found, exact is not None)
            if exact is not None:
                self.by_class[self.classes[node.outputs[0]]] = exact[0].with_shape(())
                self.unrounded.update(node.outputs)
            found |= {v: self.of(v) for v in node.outputs}
        found |= {state.initial: self.of(state.initial) for state in self.graph.states}
        return CodeTypes(found, frozenset(self.unrounded), self.host, self.converted)

    def convert(self, node: Node, found: Mapping[str, TensorType], exact: bool) -> None:
        """Note the operands that a node cannot read as they are: flags, and whole numbers among reals."""
        op = lookup(node.op)
        if node.name in self.choice.islands:
            return
        tied = {position for group in op.ties for position in group}
        for position, value in enumerate(node.inputs):
            kind = found.get(value)
            if not value or kind is None or value in self.graph.constants:
                continue
            wanted = {"whole": WHOLE, "flag": FLAG}.get(op.demands.get(position, ""))
            if wanted is None and not exact and not op.moves and position not in tied and is_whole(kind):
                meets_reals = op.name in SUMS or not reads(op, position, "i32")
                wanted = SMALL_WHOLE if meets_reals else None
            if wanted is not None and (kind.dtype, kind.quant) != (wanted.dtype, wanted.quant):
                self.converted[node.name, position] = wanted.with_shape(kind.shape)

    def of(self, value: str) -> TensorType:
        """The code type of an activation: its class's, in the value's own shape."""
        group = self.classes[value]
        if group not in self.by_class:
            self.by_class[group] = self.made(value, group, self.demands.get(group, Demand("")))
        return self.by_class[group].with_shape(self.graph.types[value].shape)

    def made(self, value: str, group: str, demand: Demand) -> TensorType:
        """The type of a class that has none yet."""
        fixed = self.fixed(demand)
        dtype = demand.word.split(" ")[0] if demand.word.startswith("i16") else self.dtypes.get(group, "")
        if fixed is not None:
            dtype = fixed.dtype
        chosen = self.dtypes.get(group, dtype)
        if chosen != dtype:
            insists = f"{dtype} ({demand.word})" if fixed is not None else demand.word
            raise PassError(f"value {value!r} must be {insists}, as its operator insists, not {chosen}")
        if fixed is not None:
            return fixed
        if dtype == "i32":
            raise PassError(
                f"value {value!r} cannot be i32: only the result of a product of 8-bit codes that nothing "
                "but the host reads can; choose i8 or i16"
            )
        dtype = dtype or self.choice.activations
        if demand.word == "probability":
            return TensorType(dtype, (), PROBABILITY[dtype])
        exact = self.choice.exact.intersection(self.members[group])
        low, high = self.choice.ranges.union(exact or self.members[group])
        quant = activation_quant(low, high, dtype, "power_of_two" in demand.word, bool(exact))
        return TensorType(dtype, (), quant)

    def fixed(self, demand: Demand) -> TensorType | None:
        """The type that a demand leaves no choice about."""
        if demand.word == "accumulates":
            return TensorType("i32", (), Quant((self.of(demand.of).scale,)))
        return {"whole": WHOLE, "flag": FLAG}.get(demand.word)

    def constants(self, node: Node, found: Mapping[str, TensorType]) -> dict[str, TensorType]:
        """Types of a node's constant operands: weights per channel, others like activations."""
        op, made = lookup(node.op), {}
        for position, value in enumerate(node.inputs):
            if value not in self.graph.constants or position in op.reals:
                continue
            if position not in op.weights:
                beside = self.beside(node, position, found)
                if beside is not None:
                    self.converted[node.name, position] = beside
                made[value] = self.of(value)
            elif value in self.choice.codes:
                made[value] = self.choice.codes[value].with_shape(self.graph.types[value].shape)
            else:
                made[value] = self.weight(node, position, found)
        return made

    def beside(self, node: Node, position: int, found: Mapping[str, TensorType]) -> TensorType | None:
        """The 32-bit type of a constant beside a 32-bit value, where with it the result stays exact.

        log(power + epsilon) would lose the power's range to the 16 bits of a calibrated sum.
        """
        value = node.inputs[position]
        others = [found[v] for v in node.inputs if v and v in found and found[v].dtype == "i32"]
        if not others:
            return None
        kind = others[0].with_shape(self.graph.types[value].shape)
        if kind.quant is None or kind.quant.axis is not None:
            return None
        codes = self.graph.constants[value].astype(np.float64) / kind.scale
        if np.abs(codes).max(initial=0) > 2**30 or (is_whole(kind) and np.any(codes != np.rint(codes))):
            return None
        operands = tuple(kind if v == value else found.get(v) if v else None for v in node.inputs)
        results = tuple(self.graph.types[v] for v in node.outputs)
        if lookup(node.op).follow(Signature(operands, results, node.attrs)) is None:
            return None
        return kind

    def weight(self, node: Node, position: int, found: Mapping[str, TensorType]) -> TensorType:
        """The type of a weight: per channel, wide enough for the bias that joins its sums."""
        name, op = node.inputs[position], lookup(node.op)
        array, width = self.graph.constants[name], self.choice.weights.get(name, self.choice.weight_bits)
        axis, floor = op.weights[position], bias_floor(self.graph, node, op, found)
        if floor is not None and floor.size != array.shape[axis]:
            floor = None  # the bias joins the sums of another weight
        return weight_type(array, axis, floor, 2 ** (width - 1) - 1)

    def exact(self, node: Node, found: Mapping[str, TensorType]) -> tuple[TensorType, ...] | None:
        """Types that follow from the operands, if every reader can take them."""
        op = lookup(node.op)
        read = (self.converted.get((node.name, i)) or found.get(v) for i, v in enumerate(node.inputs))
        operands = tuple(kind if v else None for v, kind in zip(node.inputs, read, strict=True))
        results = tuple(self.graph.types[v] for v in node.outputs)
        signature = Signature(operands, results, node.attrs)
        if any(self.classes[v] in self.rounded for v in node.outputs):
            return None  # an island hands out reals, which are rounded to i8 or i16
        if any(self.wants_sums(v) for v in node.outputs):
            sums = op.accumulator(signature)
            if sums is not None:
                return sums
        types = op.follow(signature)
        if types is None:
            return None
        fits = all(self.readable(v, t.dtype) for v, t in zip(node.outputs, types, strict=True))
        return types if fits else None

    def wants_sums(self, value: str) -> bool:
        """Whether a result is to keep its 32-bit sums: chosen so, or read only by operators of the host."""
        group = self.classes[value]
        if group in self.dtypes:
            return self.dtypes[group] == "i32"
        readers = self.graph.readers.get(value, ())
        alone = len(self.members[group]) == 1 and value not in self.graph.results
        return alone and bool(readers) and all(lookup(r.op).is_host_only for r in readers)

    def readable(self, value: str, dtype: str) -> bool:
        """Whether every node that reads a member of the value's class has a form for `dtype`."""
        group = self.classes[value]
        if any(self.classes[state.output] == group for state in self.graph.states):
            return False  # a state has the type of what reads it
        return all(
            reads(lookup(node.op), node.inputs.index(member), dtype)
            for member in self.members[group]
            for node in self.graph.readers.get(member, ())
        )


def is_whole(kind: TensorType) -> bool:
    """Whether codes are whole numbers in 32 bits."""
    return kind.dtype == "i32" and kind.quant == WHOLE.quant


def reads(op: Op, position: int, dtype: str) -> bool:
    """Whether some integer form of `op` takes `dtype` at an operand position."""
    operands = (form.split(" -> ")[0].split(" ") for form in op.forms)
    return any(position < len(names) and names[position] == dtype for names in operands)


def bias_floor(graph: Graph, node: Node, op: Op, found: Mapping[str, TensorType]) -> np.ndarray | None:
    """Least weight scales, per channel, that keep round(bias / (scale_x * scale_w)) below 2^29."""
    names = [name.rstrip("?") for name in op.operands[: len(node.inputs)]]
    value = node.inputs[names.index("bias")] if "bias" in names else ""
    if not value:
        return None
    bias = np.abs(graph.constants[value].astype(np.float64))
    return np.asarray(bias / (found[node.inputs[0]].scale * 2.0**29))
