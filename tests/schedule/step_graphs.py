"""Small graphs of steps, and a run of them inside the planned arena beside the interpreter."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from simulate.lowered import Lowered

from nnaq.interpret import Interpreter
from nnaq.ir.graph import Graph
from nnaq.ir.types import Palette, parse_type, storage
from nnaq.ir.verify import verify
from nnaq.schedule import Machine, Step
from nnaq.targets import Target, load_target

EDGE8 = load_target("edge8")
CODES = "i8[{}]<0.05, 3>"


@st.composite
def streams(draw) -> Graph:
    """Small graphs of tables, rescales, views, slices and joins, with states of every kind."""
    build = Lowered("stream")
    size = draw(st.integers(2, 40))
    values = [build.input("x", parse_type(CODES.format(size)))]
    states = [build.value(f"s{i}", parse_type(CODES.format(size))) for i in range(draw(st.integers(0, 3)))]
    values += states
    for i in range(draw(st.integers(1, 12))):
        op = draw(st.sampled_from(["tanh", "rescale", "reshape", "concat", "slice"]))
        x = draw(st.sampled_from(values))
        (length,) = build.types[x].shape
        operands, attrs = (x,), {}
        if op == "concat":
            operands, attrs = (x, draw(st.sampled_from(values))), {"axis": 0}
        if op == "slice":
            attrs = {"starts": (0,), "ends": (min(length, size),), "axes": (0,), "steps": (1,)}
        if op == "reshape":
            attrs = {"shape": (length,)}
        kind = CODES.format("") if op != "tanh" else "i8[]<0.05, 3>"
        values += build.crossed(op, operands, (kind,), f"v{i}", **attrs)
    same = [v for v in values if build.types[v].shape == (size,)]
    for i, state in enumerate(states):
        initial = np.random.default_rng(i).integers(-128, 128, size).astype(np.int8)
        build.state(state, state, draw(st.sampled_from(same)), initial)
    for name in draw(st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True)):
        build.output(name)
    return verify(build.build())


def weight_kind(form: str, outputs: int, inner: str) -> str:
    """A weight of [outputs, inner]: plain, half bytes, or a palette: one table, a table per row."""
    scales = f"<[{', '.join(['0.01'] * outputs)}]@0, 0>"
    rows = " | ".join(["-90, 5, 7"] * outputs)
    palettes = {"palette": " palette3(-90, -40, -7, 3, 50, 80)", "rows": f" palette2@1({rows})"}
    return f"{'i4' if form == 'i4' else 'i8'}[{outputs},{inner}]{scales}{palettes.get(form, '')}"


def weight(build: Lowered, form: str, name: str, outputs: int, inner: str) -> str:
    """A constant weight of random codes, on its palette if it has one; `zeros`: with a zero map."""
    kind = parse_type(weight_kind(form, outputs, inner))
    random = np.random.default_rng(outputs)
    entries = range(-7, 8) if form == "i4" else range(-100, 101)
    if form == "zeros":
        entries = (-90, 0, 0, 70)
    elif kind.palette is not None:
        entries = kind.palette.tables[0]
    codes = random.choice(np.array(entries, np.int8), kind.shape)
    if form == "zeros":
        kind = replace(kind, palette=Palette(1, ((-90, 70),), zeros=int((codes == 0).sum())))
    return build.constant(name, codes, kind)


FORMS = ("i8", "i4", "palette", "rows", "zeros")


@st.composite
def networks(draw) -> Graph:
    """Layers, convolutions, products of activations, recurrences and elementwise chains of small sizes."""
    build = Lowered("network")
    dtype = draw(st.sampled_from(["i8", "i8", "i16"]))
    features, frames = draw(st.integers(1, 40)), draw(st.integers(1, 6))
    code = f"{dtype}[]<0.05, {3 if dtype == 'i8' else 0}>"
    x = build.input("x", parse_type(code.replace("[]", f"[{frames},{features}]")))
    for number in range(draw(st.integers(1, 3))):
        x = _stage(draw, build, x, code, number)
    build.output(x)
    return verify(build.build())


def _stage(draw, build: Lowered, x: str, code: str, number: int) -> str:
    """One more part of a network on x [frames, features]."""
    name, form, outputs = f"n{number}", draw(st.sampled_from(FORMS)), draw(st.integers(1, 50))
    op = draw(st.sampled_from(["fully_connected", "conv1d", "matmul", "lstm", "chain"]))
    if op == "fully_connected":
        w = weight(build, form, f"{name}.w", outputs, str(build.types[x].shape[1]))
        bias, activation = np.linspace(-1, 1, outputs), draw(st.sampled_from(["none", "relu"]))
        return build.crossed(op, (x, w, bias), (code,), name, activation=activation)[0]
    if op == "conv1d":
        return _convolution(draw, build, x, code, name, form, outputs)
    if op == "matmul":
        (turned,) = build.crossed("transpose", (x,), (code,), f"{name}.t", perm=(1, 0))
        return build.crossed(op, (x, turned), (code,), name)[0]
    if op == "chain":
        (t,) = build.crossed("tanh", (x,), ("i8[]<0.0078125, 0>" if "i8" in code else code,), f"{name}.t")
        (r,) = build.crossed("rescale", (t,), (code,), f"{name}.r")
        return build.crossed("add", (r, x), (code,), name)[0]
    return _lstm(build, x, code, name, form, min(outputs, 12))


def _convolution(draw, build: Lowered, x: str, code: str, name: str, form: str, outputs: int) -> str:
    frames, features = build.types[x].shape
    groups, taps = draw(st.sampled_from([1, 1, features])), draw(st.integers(1, 3))
    outputs = outputs if groups == 1 else features * draw(st.integers(1, 2))
    (turned,) = build.crossed("transpose", (x,), (code,), f"{name}.t", perm=(1, 0))
    (image,) = build.crossed("reshape", (turned,), (code,), f"{name}.i", shape=(1, features, frames))
    w = weight(build, form, f"{name}.w", outputs, f"{features // groups},{taps}")
    attrs = {"stride": draw(st.integers(1, 2)), "dilation": 1, "padding": (taps - 1, 0), "groups": groups}
    (y,) = build.crossed("conv1d", (image, w, np.linspace(-1, 1, outputs)), (code,), name, **attrs)
    (flat,) = build.crossed("reshape", (y,), (code,), f"{name}.f", shape=(outputs, -1))
    return build.crossed("transpose", (flat,), (code,), f"{name}.b", perm=(1, 0))[0]


def _lstm(build: Lowered, x: str, code: str, name: str, form: str, units: int) -> str:
    frames, features = build.types[x].shape
    hidden, cell = f"i8[1,{units}]<0.0078125, 0>", f"i16[1,{units}]<{2**-11}, 0>"
    (q,) = build.crossed("rescale", (x,), ("i8[]<0.05, 0>",), f"{name}.q")
    (steps,) = build.crossed("reshape", (q,), ("i8[]<0.05, 0>",), f"{name}.s", shape=(frames, 1, features))
    h0, c0 = (build.value(f"{name}.{s}", parse_type(kind)) for s, kind in (("h0", hidden), ("c0", cell)))
    inner = (("wx", features), ("wh", units))
    weights = [weight(build, form, f"{name}.{w}", 4 * units, str(size)) for w, size in inner]
    operands = (steps, h0, c0, *weights, np.zeros(4 * units))
    y, h, c = build.crossed("lstm", operands, (hidden, hidden, cell), name)
    build.state(f"{name}.h", h0, h, np.full((1, units), 3, np.int8))
    build.state(f"{name}.c", c0, c, np.full((1, units), -5, np.int16))
    (flat,) = build.crossed("reshape", (y,), ("i8[]<0.0078125, 0>",), f"{name}.f", shape=(frames, units))
    return build.crossed("rescale", (flat,), (code,), f"{name}.o")[0]


@st.composite
def machines(draw) -> Target:
    """Arrays of any shape, with and without double buffers and decompression, and little or much SRAM."""
    base = load_target(draw(st.sampled_from(["edge8", "edge8-sub8"])))
    array = replace(
        base.array,
        rows=draw(st.integers(1, 32)),
        columns=draw(st.integers(1, 32)),
        dataflow=draw(st.sampled_from(["weight_stationary", "output_stationary"])),
        double_buffered=draw(st.booleans()),
    )
    sram = replace(
        base.sram,
        bytes=draw(st.sampled_from([1 << 10, 1 << 12, 1 << 14, 1 << 19])),
        banks=draw(st.integers(1, 4)),
        burst_bytes=draw(st.sampled_from([1, 64])),
    )
    dma = replace(base.dma, channels=draw(st.integers(1, 3)), start_cycles=draw(st.integers(0, 50)))
    unit = base.decompression and replace(base.decompression, entropy=draw(st.booleans()))
    exclude = draw(st.sampled_from([(), (), ("tanh",), ("add", "transpose")]))
    return replace(base, array=array, sram=sram, dma=dma, decompression=unit, exclude=exclude)


def random_inputs(graph: Graph, seed: int) -> dict[str, np.ndarray]:
    """Codes or reals for every input of a bound graph."""
    random, found = np.random.default_rng(seed), {}
    for port in graph.inputs:
        kind = graph.types[port.name]
        if kind.dtype == "f32":
            found[port.name] = random.normal(size=kind.shape).astype(np.float32)
        else:
            found[port.name] = random.integers(-128, 128, kind.shape).astype(storage(kind.dtype))
    return found


def same_in_the_arena(step: Step, graph: Graph, seed: int = 0, shuffled: bool = False) -> bool:
    """Whether three steps give the interpreter's outputs and states; shuffled: in any order that waits."""
    machine, interpreter, random = Machine(step), Interpreter(graph), np.random.default_rng(seed)
    for number in range(3):
        inputs = random_inputs(step.graph, seed + number)
        order = some_order(step, random) if shuffled else None
        found, expected = machine(inputs, order), interpreter.step(inputs)
        if not same(found, expected.outputs) or not same(machine.states(), expected.states):
            return False
    return True


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    return found.keys() == expected.keys() and all(np.array_equal(found[n], expected[n]) for n in expected)


def some_order(step: Step, random: np.random.Generator) -> list[int]:
    """A random order of the commands in which all that a command needs comes before it."""
    left = [len(command.needs) for command in step.commands]
    waiting: list[list[int]] = [[] for _ in step.commands]
    for number, command in enumerate(step.commands):
        for need in command.needs:
            waiting[need].append(number)
    ready, order = [number for number, count in enumerate(left) if not count], []
    while ready:
        order.append(ready.pop(int(random.integers(len(ready)))))
        for number in waiting[order[-1]]:
            left[number] -= 1
            if not left[number]:
                ready.append(number)
    return order
