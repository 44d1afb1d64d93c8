"""What a finished lowering found out, as a report: layers, costs, memory, islands, saturations."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version

from nnaq import pipeline
from nnaq.codebooks.storage import storage_of_graph
from nnaq.cost import OpCost, bind_shapes, op_cost
from nnaq.crossing import ERROR_FRAMES, Inputs, Lowering, stretches
from nnaq.interpret import run
from nnaq.ir.graph import Graph
from nnaq.ir.op import lookup
from nnaq.ir.types import TensorType, bits
from nnaq.kernels.recurrent import count_cell_saturations
from nnaq.quantize.error import layer_errors
from nnaq.report import Check, Island, Latency, Layer, Memory, Report
from nnaq.report import Crossing as Boundary
from nnaq.simulate import Simulation
from nnaq.targets import Target, at_rest, undecompressed
from nnaq.tasks.framing import frame_seconds


def report_of(
    lowering: Lowering,
    simulation: Simulation,
    model: str,
    notes: Sequence[str],
    check: Check,
    seconds: float | None = None,
) -> Report:
    """All figures of a lowering in one report. seconds: of sound in a step; without it the recipe says."""
    crossing, plan = lowering.crossing, simulation.plan
    seconds = seconds or frame_seconds(lowering.recipe)
    judged = list(stretches(crossing.real, lowering.evaluation, ERROR_FRAMES))
    layers = layers_of(crossing, judged, {cost.name: cost for cost in simulation.costs})
    return Report(
        model=model,
        target=lowering.target.name,
        recipe=lowering.recipe.name,
        versions={name: version(name) for name in ("nnaq", "numpy", "numba", "onnx")},
        accuracy=lowering.figures,
        layers=layers,
        latency=Latency(**simulation.latency(seconds)),
        memory=Memory(plan.weight_bytes, plan.table_bytes, plan.state_bytes, plan.sram_peak_bytes),
        islands=[
            Island(i.name, i.op, crossing.islands.get(i.name, i.reason), i.cycles) for i in simulation.islands
        ],
        boundary=[Boundary(c.name, c.op, c.cycles) for c in simulation.boundary],
        checks={"file_equals_simulator": check},
        notes=(
            *notes,
            *undecompressed(crossing.integer, lowering.target),
            *_idle_palettes(crossing),
            *_moved(simulation),
        ),
        raises=[asdict(r) for r in crossing.raises],
        saturations=cell_saturations(crossing.integer, judged),
        storage=storage_of_graph(crossing.integer),
    )


def _idle_palettes(crossing: pipeline.Crossing) -> list[str]:
    """Sentences on palettes that could not be as chosen."""
    host = pipeline.host_weights(crossing.real, crossing.islands.keys()) & crossing.options.palettes.keys()
    blind = pipeline.unmeasured(crossing.options) - host
    said = {
        "left real for the host, without a palette": host,
        "no activation can be measured there, so the palette is found without": blind,
    }
    return [f"{', '.join(sorted(names))}: {what}" for what, names in said.items() if names]


def _moved(simulation: Simulation) -> list[str]:
    """A sentence on nodes that the host runs by choice."""
    names = ", ".join(cost.name for cost in simulation.moved if cost.cycles)
    return [f"{names}: the host is done sooner than the accelerator, crossings counted"] if names else []


def foreseen_islands(graph: Graph, target: Target) -> list[Island]:
    """Nodes of a real graph that the target leaves to the host whatever their codes will be."""
    real = pipeline.simplify(graph)
    why, step = pipeline.excluded(real, target), bind_shapes(real)
    left = (node for node in step.nodes if node.name in why)
    return [Island(n.name, n.op, why[n.name], op_cost(step, n, target).cycles) for n in left]


def layers_of(
    crossing: pipeline.Crossing, recordings: Sequence[Inputs], costs: Mapping[str, OpCost]
) -> list[Layer]:
    """One row per integer node, worst SQNR first; nodes without a real twin come last."""
    integer = crossing.integer
    errors = {e.name: e for e in layer_errors(crossing.real, integer, recordings)}
    rows = []
    for node in integer.nodes:
        error, cost, weights = errors.get(node.name), costs.get(node.name), lookup(node.op).weights
        weight = integer.types[node.inputs[min(weights)]] if weights else None
        rows.append(
            Layer(
                name=node.name,
                op=node.op,
                sqnr_db=error.sqnr_db if error else None,
                added_db=error.added_db if error else None,
                weight_bits=None if weight is None else weight_bits(at_rest(weight, crossing.options.target)),
                activation_bits=bits(integer.types[node.outputs[0]].dtype),
                cycles=None if cost is None else cost.cycles,
                bound=None if cost is None else cost.bound,
                exact=error is not None and error.exact,
            )
        )
    return sorted(rows, key=lambda row: float("inf") if row.sqnr_db is None else row.sqnr_db)


def weight_bits(weight: TensorType) -> int:
    """Bits a weight takes at rest: those of its palette's indices, or of its dtype."""
    return bits(weight.dtype) if weight.palette is None else weight.palette.bits


def cell_saturations(integer: Graph, recordings: Iterable[Inputs]) -> dict[str, int]:
    """How often a cell state hit its rail in each lstm, over the recordings."""
    nodes = [
        node for node in integer.nodes if node.op == "lstm" and integer.types[node.outputs[0]].dtype != "f32"
    ]
    counts = {node.name: 0 for node in nodes}
    for inputs in recordings if nodes else ():
        values = run(integer, inputs, keep={v for node in nodes for v in node.inputs if v}).values
        for node in nodes:
            arrays = (values[v] if v else None for v in node.inputs)
            counts[node.name] += count_cell_saturations(integer.signature(node), *arrays)
    return counts
