"""torch modules as graphs.

torch.export with recurrent layers kept whole -> functional form, composites kept whole too -> one
handler per node -> states and time axes -> verify. Everything that cannot be imported is listed at
once, with its place in the module.

The default decompositions are never used: they unroll recurrent layers over time and take
attention apart.
"""

import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.export.graph_signature import InputKind, InputSpec, OutputKind

import nnaq.kernels  # noqa: F401  (fills the operator table)
from nnaq.errors import FrontendError
from nnaq.frontends import ports
from nnaq.frontends.ports import Imported, ImportOptions, Names
from nnaq.frontends.torch_handlers import HANDLERS, HINTS
from nnaq.frontends.torch_importer import GETITEM, Walk, declare, makes_tensor, operator
from nnaq.frontends.torch_leaves import leaves
from nnaq.frontends.torch_patterns import patterns
from nnaq.frontends.torch_sizes import Sizes
from nnaq.ir.build import Builder
from nnaq.ir.dims import Shape
from nnaq.ir.order import without_dead_code
from nnaq.ir.types import TensorType
from nnaq.ir.verify import verify

Examples = torch.Tensor | Sequence[torch.Tensor] | Mapping[str, torch.Tensor]
_STORED = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)


def load(
    module: nn.Module,
    example_inputs: Examples,
    options: ImportOptions | None = None,
    outputs: Sequence[str] = (),
) -> Imported:
    """The graph of a module in evaluation mode; its own mode is restored afterwards.

    example_inputs: tensors in the order of `forward`, or by its argument names, or the only one; inputs
    of the graph have those names. An axis is open where `options.time` says so or `options.shapes` has a name
    there; its example must be 2 or longer. outputs: names of the results in order; without them
    `output`, or `output`, `output_1`, … . A buffer that forward changes becomes a state.

    Raises FrontendError: torch cannot export the module, or all operators that cannot be imported.
    """
    options = options or ImportOptions()
    if options.pins:
        raise FrontendError("a torch module takes no pins; bind the value in a module around it")
    given = examples_by_name(module, example_inputs)
    program = _exported(module, given, options)
    walk = _declared(module, program, given, options)
    results = _results(walk, program, outputs)
    nodes = list(program.graph.nodes)
    patterns(walk, nodes)
    _note_limits(walk, program)
    walk.run(nodes, HANDLERS, HINTS)
    if walk.problems:
        raise ports.refusal(type(module).__name__, walk.problems)
    return _finished(walk, program, given, results, options)


def examples_by_name(module: nn.Module, examples: Examples) -> dict[str, torch.Tensor]:
    """Example inputs by the names of forward's arguments. Raises FrontendError for what it does not take."""
    parameters = inspect.signature(module.forward).parameters.values()
    names = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if isinstance(examples, torch.Tensor):
        examples = [examples]
    if not isinstance(examples, Mapping):
        if len(examples) > len(names):
            if star := next((p for p in parameters if p.kind == p.VAR_POSITIONAL), None):
                raise FrontendError(f"forward takes {star}, which nnaq does not support; name every input")
            raise FrontendError(f"forward takes {', '.join(names)}; found {len(examples)} example inputs")
        examples = dict(zip(names, examples, strict=False))
    ports.must_know("input", examples, names)
    for name, example in examples.items():
        if not isinstance(example, torch.Tensor) or example.is_complex():
            raise FrontendError(
                f"example input {name!r} is {type(example).__name__}, expected a tensor of reals, whole "
                "numbers or flags"
            )
    return dict(examples)


def _exported(
    module: nn.Module, given: Mapping[str, torch.Tensor], options: ImportOptions
) -> torch.export.ExportedProgram:
    open_axes = {name: _open_axes(name, example, options) for name, example in given.items()}
    auto = torch.export.Dim.AUTO
    dynamic = {name: dict.fromkeys(axes, auto) for name, axes in open_axes.items()}
    try:
        with leaves(), warnings.catch_warnings(), in_evaluation(module):
            warnings.simplefilter("ignore")  # torch warns about its own insides
            traced = torch.export.export(module, (), dict(given), dynamic_shapes=dynamic)
            return traced if _is_readable(traced.graph) else traced.run_decompositions({})
    except FrontendError:
        raise
    except Exception as error:  # torch raises whatever the module's own code does
        raise FrontendError(f"torch.export cannot read {type(module).__name__}: {_reason(error)}") from error


@contextmanager
def in_evaluation(module: nn.Module) -> Iterator[None]:
    """A module in evaluation mode for a while; then every part of it in its own mode again."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _is_readable(graph: fx.Graph) -> bool:
    """Whether every operator has a handler and changes nothing in place; else a plainer form is read."""
    calls = [node for node in graph.nodes if node.op == "call_function" and makes_tensor(node)]
    schemas = [node.target._schema for node in calls if isinstance(node.target, torch._ops.OpOverload)]
    known = all(operator(node) in HANDLERS or operator(node) == GETITEM for node in calls)
    return known and not any(schema.is_mutable for schema in schemas)


def _reason(error: Exception) -> str:
    """The first line of an error, and of torch's complaints about open axes the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    fixed = [line for line in lines if "specialized it to be a constant" in line]
    if fixed:
        return f"{fixed[0].split('. If')[0].lstrip('- ')}; give that axis a whole size"
    return lines[0] if lines else type(error).__name__


def _open_axes(name: str, example: torch.Tensor, options: ImportOptions) -> dict[int, str]:
    """Open axes of an input with their names."""
    ports.must_have_axes(
        {k: a for k, a in (*options.time.items(), *options.batch.items()) if k == name},
        {name: tuple(example.shape)},
    )
    shape = options.shapes.get(name, tuple(example.shape))
    if len(shape) != example.dim():
        raise FrontendError(f"input {name!r} has {example.dim()} axes, but its given shape is {list(shape)}")
    axes = {axis: ports.symbol(dim) for axis, dim in enumerate(shape) if isinstance(dim, str)}
    if name in options.time:
        axes.setdefault(options.time[name], ports.TIME)
    for axis, dim in enumerate(example.shape):
        fixed = shape[axis]
        if isinstance(fixed, int) and fixed != dim:
            raise FrontendError(
                f"input {name!r} has {dim} entries on axis {axis}, its given shape says {fixed}"
            )
        if axis in axes and dim < 2:
            raise FrontendError(
                f"the example of input {name!r} has {dim} entries on its open axis {axis}; give 2 or more"
            )
    return axes


def _inputs(program: torch.export.ExportedProgram) -> dict[str, tuple[fx.Node, InputSpec]]:
    nodes = (node for node in program.graph.nodes if node.op == "placeholder")
    pairs = zip(nodes, program.graph_signature.input_specs, strict=True)
    return {node.name: (node, spec) for node, spec in pairs}


def _declared(
    module: nn.Module,
    program: torch.export.ExportedProgram,
    given: Mapping[str, torch.Tensor],
    options: ImportOptions,
) -> Walk:
    """A walk that knows the inputs, the states in buffers and the parameters."""
    ports.must_know("port with a shape", options.shapes, given)
    builder = Builder(ports.clean(type(module).__name__))
    walk = Walk(builder, Names(), {}, {}, Sizes(builder))
    changed = set(program.graph_signature.buffers_to_mutate.values())
    for name, (node, spec) in _inputs(program).items():
        if spec.kind == InputKind.USER_INPUT:
            declare(walk, node, name, _shape_of_input(walk, name, node, given[name], options))
        elif spec.target in changed:
            declare(walk, node, str(spec.target), tuple(_stored(program, spec).shape))
        elif spec.kind in _STORED and node.users:  # what only training reads is no part of the model
            walk.store(name, str(spec.target), _stored(program, spec))
    return walk


def _note_limits(walk: Walk, program: torch.export.ExportedProgram) -> None:
    """What the module's code says about the sizes of open axes."""
    for symbol, span in program.range_constraints.items():
        if str(symbol) in walk.sizes.names and str(span.upper).isdigit():
            walk.notes.append(
                f"{walk.sizes.names[str(symbol)]} is at most {span.upper}: the module's code says so"
            )


def _shape_of_input(
    walk: Walk, name: str, node: fx.Node, example: torch.Tensor, options: ImportOptions
) -> Shape:
    """The shape of an input with open axes by name; what the module fixes or ties together is noted."""
    axes, sizes = _open_axes(name, example, options), node.meta["val"].shape
    shape: list[int | str] = list(example.shape)
    for axis, dim in axes.items():
        if isinstance(walk.sizes.dim(sizes[axis]), int):
            walk.notes.append(f"input {name}: the module's code fixes axis {axis} ({dim}) to {sizes[axis]}")
            continue
        known = walk.sizes.dim(sizes[axis])
        if walk.sizes.knows(sizes[axis]) and known != dim:
            walk.notes.append(f"input {name}: axis {axis} ({dim}) is {known}, for the module says so")
            dim = known if isinstance(known, str) else dim
        walk.sizes.learn(sizes[axis], dim)
        shape[axis] = dim
    if not example.is_floating_point():
        what = "flags, 0 and 1" if example.dtype == torch.bool else "whole numbers"
        walk.notes.append(f"input {name} holds {what}")
    return tuple(shape)


def _stored(program: torch.export.ExportedProgram, spec: InputSpec) -> np.ndarray:
    held: Any = program.state_dict.get(str(spec.target), program.constants.get(str(spec.target)))
    if not isinstance(held, torch.Tensor):
        raise FrontendError(f"{spec.target!r} of the module holds {type(held).__name__}, expected a tensor")
    array = held.detach().cpu()
    array = array.float() if array.is_floating_point() else array
    found: np.ndarray = array.numpy()
    if spec.kind == InputKind.PARAMETER and not np.isfinite(found).all():
        raise FrontendError(
            f"parameter {spec.target!r} holds NaN or infinity; a quantiser needs finite weights"
        )
    return found


def _results(
    walk: Walk, program: torch.export.ExportedProgram, names: Sequence[str]
) -> list[tuple[str, fx.Node]]:
    """Outputs and next values of buffers: name and node; nodes that can take the name wait for it."""
    made = program.graph.output_node().args[0]
    specs = list(zip(program.graph_signature.output_specs, made, strict=True))
    plain = [node for spec, node in specs if spec.kind == OutputKind.USER_OUTPUT]
    default = ["output", *(f"output_{i}" for i in range(1, len(plain)))]
    if names and len(names) != len(plain):
        raise FrontendError(f"the module makes {len(plain)} outputs, found {len(names)} names for them")
    pairs = list(zip(names or default[: len(plain)], plain, strict=True))
    changed = [(f"{s.target}.next", n) for s, n in specs if s.kind == OutputKind.BUFFER_MUTATION]
    for name, node in pairs:
        if not isinstance(node, fx.Node):
            raise FrontendError(f"output {name!r} is {node!r}, expected a tensor")
        if walk.names.fresh(name) != name:
            raise FrontendError(
                f"output {name!r} has the name of an input or is no plain name; name it otherwise"
            )
        if node.op == "call_function":
            walk.wanted.setdefault(node.name, name)
    return pairs + changed


def _finished(
    walk: Walk,
    program: torch.export.ExportedProgram,
    given: Mapping[str, torch.Tensor],
    results: Sequence[tuple[str, fx.Node]],
    options: ImportOptions,
) -> Imported:
    """States, ports and notes; then the verified graph."""
    builder, specs = walk.builder, _inputs(program)
    inputs = {name: builder.types[walk.values[name, 0]] for name in given}
    buffers = {f"{spec.target}.next": n for n, (_, spec) in specs.items() if spec.kind == InputKind.BUFFER}
    values = {name: _named(walk, name, node, name in buffers) for name, node in results}
    outputs = {name: builder.types[value] for name, value in values.items() if name not in buffers}
    ports.must_know("port with a time axis", options.time, [*inputs, *outputs])
    states, paired = ports.pair_states(options, inputs, outputs)
    if not options.states:
        open_ones = [name for name in states if any(isinstance(d, str) for d in inputs[name].shape)]
        paired = [note for note in paired if note.split(":")[0].removeprefix("state ") not in open_ones]
        paired += [f"port {name} stays an input: a state needs whole sizes" for name in open_ones]
        states = {name: after for name, after in states.items() if name not in open_ones}
    for name, after in states.items():
        kind = inputs[name]
        if any(isinstance(dim, str) for dim in kind.shape):
            raise FrontendError(f"state {name!r} has the open shape {list(kind.shape)}; give it whole sizes")
        builder.state(name, name, values[after], given[name].detach().cpu().numpy() * 0)
    for name in values.keys() & buffers.keys():
        state = walk.values[buffers[name], 0]
        builder.state(state, state, values[name], _stored(program, specs[buffers[name]][1]))
    ends = {n: k for n, k in {**inputs, **outputs}.items() if n not in {*states, *states.values()}}
    for name, kind in ends.items():
        axes = _axes(name, kind, options, walk.notes)
        if name in inputs:
            builder.input(name, kind, *axes)
        else:
            builder.output(values[name], *axes)
    graph = verify(without_dead_code(builder.build()))
    origins = {name: origin for name, origin in walk.made.items() if name in graph.constants}
    return Imported(graph, tuple(walk.notes + paired), origins=origins, held=walk.held)


def _named(walk: Walk, name: str, node: fx.Node, is_state: bool) -> str:
    """The value of an output under the output's name; where it has another one, a copy of it."""
    if (node.name, 0) not in walk.values:
        raise FrontendError(f"output {name!r} does not depend on the inputs; leave it out")
    value = walk.values[node.name, 0]
    if value == name or (is_state and value in walk.builder.types):
        return value
    shape = walk.builder.types[value].shape
    attrs = {"shape": tuple(d if isinstance(d, int) else 0 for d in shape)}
    return walk.builder.node("reshape", [value], attrs, [name], source=name)[0]


def _axes(
    name: str, kind: TensorType, options: ImportOptions, notes: list[str]
) -> tuple[int | None, int | None]:
    time = ports.axis_of(name, kind.shape, options.time)
    if time is not None and name not in options.time:
        notes.append(f"port {name}: axis {time} is time (it depends on T)")
    return time, options.batch.get(name)
