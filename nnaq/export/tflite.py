"""A lowered model as a quantised .tflite file, which tflite-micro runs with the same integers by the frame.

It takes a model lowered under TFLite's numerics, rounding = "double", input_rounding = "half_away",
curves = "tflite", lut_entries = 65536, as the target `tflite-micro` says them. Ports stay reals where they
are. States are the file's own: those of an LSTM its variables, others resource variables. Weights of 4 bits
and palettes rest as int8 codes.

Nothing is approximated: what TFLite's kernels would compute with other integers is refused, every such node
with the reason. Kept: every integer. Lost: palettes, axes of time, more than one frame a run.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from nnaq.errors import ArtifactError
from nnaq.export.tflite_operators import EMIT
from nnaq.export.tflite_states import Variables, lstm, lstm_states
from nnaq.export.tflite_writer import Lost, Refused, TfliteWriter
from nnaq.ir.graph import Graph, Node, State
from nnaq.ir.verify import is_real
from nnaq.targets import BOUNDARY

EMITTERS = {**EMIT, "lstm": lstm}
OTHER_NUMBERS = ("accumulator_bits", "internal_bits")


def tflite_model(graph: Graph) -> bytes:
    """The bytes of the file. Raises ArtifactError that lists what TFLite cannot say."""
    writer, problems = TfliteWriter(graph), [*_without_form(graph)]
    if not problems:
        problems = [*_written(writer)]
    if problems:
        raise ArtifactError(f"graph {graph.name!r} cannot be written as TFLite: {'; '.join(problems)}")
    return writer.file.bytes([writer.places[port.name] for port in graph.inputs], _outputs(writer))


def _without_form(graph: Graph) -> Iterator[str]:
    """Nodes whose operator or numerics TFLite does not have."""
    for node in graph.nodes:
        if node.op not in EMITTERS:
            yield f"{node.op} {node.name!r} has no form with the same integers"
        elif is_real(graph, node) and node.op not in BOUNDARY:
            yield f"{node.op} {node.name!r} is left to the host, in reals"
        elif node.op not in BOUNDARY and node.attrs.get("rounding", "double") != "double":
            yield (
                f"{node.op} {node.name!r} rounds by {node.attrs['rounding']}; lower for a target with "
                'rounding = "double", such as tflite-micro'
            )
        elif any(word in node.attrs for word in OTHER_NUMBERS):
            yield f"{node.op} {node.name!r} has narrow accumulators or internals"


def _written(writer: TfliteWriter) -> Iterator[str]:
    """Writes every node; tells what could not be written."""
    graph, kept = writer.graph, set[str]()

    def keep(node: Node) -> None:
        kept.update(lstm_states(writer, node))

    for port in graph.inputs:
        writer.places[port.name] = writer.tensor(port.name)
    for node in graph.nodes:
        if node.op == "lstm":
            yield from _attempt(node, partial(keep, node))
    variables = Variables(writer)
    for state in graph.states:
        if state.name not in kept:
            yield from _attempt(state, partial(variables.read, state))
    for node in graph.nodes:
        if node.name not in writer.inside:
            yield from _attempt(node, partial(EMITTERS[node.op], writer, node))
    with suppress(Lost):
        variables.assign()


def _attempt(what: Node | State, act: Callable[[], object]) -> Iterator[str]:
    try:
        with suppress(Lost):
            act()
    except Refused as error:
        yield f"{what.op if isinstance(what, Node) else 'state'} {what.name!r}: {error}"


def _outputs(writer: TfliteWriter) -> list[int]:
    """The tensors of output ports; one that is an input or stands twice is copied."""
    taken = {writer.places[port.name] for port in writer.graph.inputs}
    found = []
    for port in writer.graph.outputs:
        place = writer.place(port.name)
        if place in taken or port.name in writer.graph.constants:
            shape = writer.shape(port.name)
            made = writer.tensor(port.name, name=f"{port.name}:out")
            operands = [place, writer.file.numbers(*shape)]
            place = writer.file.operator("RESHAPE", operands, made, "ReshapeOptions", new_shape=shape)
        taken.add(place)
        found.append(place)
    return found
