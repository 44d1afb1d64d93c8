"""Integer nodes on other devices: the kernels' bits, from operators that CUDA has. Not run on a GPU."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torchgen
from export.integer_graphs import random_inputs
from train.crossings import crossing, inputs
from train.device_cases import FAMILIES, NAMES, cases
from train.pretended import THERE, Elsewhere, Pretence, Watch, elsewhere

from nnaq.errors import ArtifactError, DataError, OpError
from nnaq.export.plain_functions import Function, Step, function_of
from nnaq.interpret import Interpreter, Result
from nnaq.ir.graph import Graph
from nnaq.ir.op import table
from nnaq.train import device_matmul, devices
from nnaq.train.device_operators import ALLOWED
from nnaq.train.device_program import Action, Loop, Program
from nnaq.train.device_ranges import ANYTHING, ranges_of
from nnaq.train.devices import program, run_graph, run_node

KERNELS = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native" / "native_functions.yaml"
ON_CUDA = {"CUDA", "CompositeExplicitAutograd", "Generic"}  # Generic: one formula for CPU and CUDA
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="not run on a GPU: none here")


lowered = cache(lambda activations="i8": crossing(activations))


@pytest.fixture(autouse=True)
def _one_thread_and_no_pretended_constants():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    program.cache_clear()  # its copies of constants may pretend to be elsewhere


def assert_bits(found: Mapping[str, torch.Tensor], expected: Mapping[str, np.ndarray], who: str) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        made = found[name].cpu().numpy()
        assert made.dtype == array.dtype, f"{who}: {name}"
        np.testing.assert_array_equal(made, array, f"{who}: {name}")


def assert_result(found, result: Result, who: str) -> None:
    outputs, states = found
    assert_bits(outputs, result.outputs, who)
    assert_bits(states, result.states, who)


def pretended(graph: Graph, feeds: Mapping[str, np.ndarray]) -> tuple[dict, dict]:
    """What a graph gives whose values pretend to be on another device."""
    values = {name: elsewhere(array) for name, array in {**graph.constants, **feeds}.items()}
    values |= {state.input: values[state.initial] for state in graph.states}
    for node in graph.nodes:
        with Pretence():
            made = run_node(graph, node, [values[v] if v else None for v in node.inputs])
        assert all(isinstance(x, Elsewhere) and x.device == THERE for x in made)
        values.update(zip(node.outputs, made, strict=True))
    outputs = {port.name: values[port.name].held for port in graph.outputs}
    return outputs, {state.name: values[state.output].held for state in graph.states}


@pytest.mark.parametrize("family", NAMES)
def test_every_operator_gives_the_bits_of_its_kernel(family):
    """On the CPU, from operators of the list alone, and where nothing may leave the device."""
    for graph, feeds in cases(family):
        expected, who = Interpreter(graph).step(feeds), f"{graph.name} {graph.types}"
        with Watch():
            found = run_graph(graph, feeds, force_device_path=True)
        assert_result(found, expected, who)
        assert_result(pretended(graph, feeds), expected, who)


@pytest.mark.parametrize("family", ["elementwise", "layers", "normalisations", "reductions", "recurrent"])
def test_a_stretch_of_no_frames(family):
    for graph in FAMILIES[family]():
        feeds = random_inputs(graph, 0, 0)
        found = run_graph(graph, feeds, force_device_path=True)
        assert_result(found, Interpreter(graph).step(feeds), graph.name)


def test_layers_give_the_same_bits_by_int8(monkeypatch):
    monkeypatch.setattr(device_matmul, "MANY_PRODUCTS", 0)
    seen = set()
    for family in ("layers", "recurrent"):
        for graph, feeds in cases(family):
            with Watch() as watch:
                found = run_graph(graph, feeds, force_device_path=True)
            assert_result(found, Interpreter(graph).step(feeds), graph.name)
            seen |= {node.op for node in graph.nodes if "_int_mm" in watch.seen}
    assert {"fully_connected", "matmul", "conv1d", "conv2d", "conv_transpose1d", "lstm", "gru"} <= seen


def test_every_operator_with_an_integer_form_is_among_them():
    seen = {node.op for family in NAMES for graph, _ in cases(family) for node in graph.nodes}
    assert seen == {name for name, op in table().items() if op.forms}


def test_cuda_has_every_operator_of_the_list():
    """By the table of kernels that PyTorch is made from: a kernel of its own or of the form that writes to
    `out`, or one that PyTorch composes of others on every device."""
    entries = KERNELS.read_text().split("\n- func: ")[1:]
    blocks = {entry.split("(")[0]: entry for entry in entries}

    def runs_on_cuda(name: str) -> bool:
        keys = [line.partition(":")[0] for line in blocks[name].splitlines() if line.startswith("    ")]
        words = {word.strip() for key in keys for word in key.split(",")}
        target = blocks[name].partition("structured_delegate: ")[2].split()
        return bool(words & ON_CUDA) or bool(target and runs_on_cuda(target[0]))

    assert [name for name in ALLOWED if not runs_on_cuda(name)] == []
    assert sorted(set(ALLOWED)) == ALLOWED
    assert not runs_on_cuda("mkldnn_linear")  # what has no kernel for CUDA is seen


def test_the_watch_sees_what_cuda_has_not():
    whole = torch.ones(2, 2, dtype=torch.int64)
    with Watch(), pytest.raises(AssertionError, match="mm of integers"):
        whole @ whole
    with Watch(), pytest.raises(AssertionError, match="sort"):
        whole.sort()
    with Pretence(), pytest.raises(AssertionError, match="mixes devices"):
        Elsewhere(whole) + torch.ones(2, dtype=torch.int64)
    with Pretence(), pytest.raises(AssertionError, match="_local_scalar_dense"):
        Elsewhere(whole).amax((0, 1)).item()


# --- ranges


def checked(action: Action, limits) -> Action:
    """The action, failing on a result outside of its range."""

    def run(*operands):
        made = action.run(*operands)
        for name, x in zip(action.results, made if isinstance(made, tuple) else (made,), strict=True):
            if not x.is_floating_point() and x.numel():
                low, high = limits[name]
                assert low <= int(x.min()) and int(x.max()) <= high, name
        return made

    if isinstance(action, Loop):
        return replace(action, frame=tuple(checked(inner, limits) for inner in action.frame))
    return replace(action, run=run)


@pytest.mark.parametrize("family", ["layers", "narrow_layers", "recurrent", "inverses", "moves"])
def test_every_value_is_within_its_range(family, monkeypatch):
    def made(function, limits):
        found = Program(function, limits)
        proved = ranges_of(function, limits)
        found.actions = tuple(checked(action, proved) for action in found.actions)
        return found

    monkeypatch.setattr(devices, "program", made)
    for graph, feeds in cases(family):
        run_graph(graph, feeds, force_device_path=True)


def test_products_of_layers_are_proved_narrow():
    """No product of a layer falls back to cutting its operands."""
    for family in ("layers", "narrow_layers", "recurrent"):
        for graph, _ in cases(family):
            for node in graph.nodes:
                function = function_of(graph, node)
                limits = tuple(devices._range_of(graph.types.get(v)) for v in node.inputs)
                found = ranges_of(function, limits)
                for a, b in products_in(function):
                    assert all(max(map(abs, found[v])) <= 2**16 for v in (a, b)), node.op


def products_in(function: Function) -> list[tuple[str, ...]]:
    inside = [pair for s in function.steps if "body" in s.attrs for pair in products_in(s.attrs["body"])]
    return inside + [step.inputs for step in function.steps if step.op == "MatMul"]


# --- whole graphs, and the ends


@pytest.mark.parametrize("activations", ["i8", "i16"])
def test_a_lowered_graph_is_the_interpreter_chunk_by_chunk(activations):
    graph = lowered(activations).integer
    whole, interpreter, states = inputs(9)["x"], Interpreter(graph), None
    axis = graph.inputs[0].time_axis
    for chunk in np.split(whole, [4], axis):
        with Watch():
            outputs, states = run_graph(graph, {"x": chunk}, states=states, force_device_path=True)
        assert_result((outputs, states), interpreter.step({"x": chunk}), "chunk")


def test_the_cpu_runs_the_kernels():
    graph = lowered().integer
    feeds = inputs(5)
    assert_result(run_graph(graph, feeds), Interpreter(graph).step(feeds), "cpu")


def test_trained_weights_share_one_program():
    first, second = (lowered().integer for _ in range(2))
    node = next(node for node in first.nodes if node.op == "fully_connected")
    kind = first.types[node.inputs[1]]
    scales = tuple(2 * scale for scale in kind.quant.scale)
    types = {**second.types, node.inputs[1]: replace(kind, quant=replace(kind.quant, scale=scales))}
    assert function_of(replace(second, types=types), node) is function_of(first, node)


def test_inputs_that_want_gradients_pass():
    graph = next(graph for graph, _ in cases("edges"))
    x = torch.linspace(-9, 9, 64).reshape(1, 64).requires_grad_()
    (found,) = run_node(graph, graph.nodes[0], [x], force_device_path=True)
    (expected,) = run_node(graph, graph.nodes[0], [x.detach()])
    assert torch.equal(found, expected)


def test_the_host_stays_the_host_under_another_default_device():
    graph, feeds = next(case for case in cases("moves") if case[0].name == "relative_shift")
    operands = [torch.tensor(feeds[port.name]) for port in graph.inputs]
    with torch.device("meta"):
        (found,) = run_node(graph, graph.nodes[0], operands, force_device_path=True)
    (expected,) = Interpreter(graph).step(feeds).outputs.values()
    np.testing.assert_array_equal(found.numpy(), expected)


def test_operands_on_two_devices_are_refused():
    graph, feeds = next(case for case in cases("elementwise"))
    (node,) = graph.nodes
    arrays = [torch.tensor({**graph.constants, **feeds}[v]) for v in node.inputs]
    with pytest.raises(DataError, match=r"operands on cpu, meta; they must be on one device"):
        run_node(graph, node, [arrays[0].to("meta"), *arrays[1:]])


def test_what_has_no_form_here_is_refused():
    crossed = lowered()
    with pytest.raises(ArtifactError, match="has no body over codes"):
        function_of(crossed.real, crossed.real.nodes[0])
    strange = Function(("x",), ("y",), (Step("Gelu", ("x",), ("y",), {}),))
    with pytest.raises(OpError, match="operator Gelu"):
        Program(strange, (ANYTHING,))


@needs_cuda
@pytest.mark.parametrize("family", NAMES)
def test_a_gpu_gives_the_bits_of_the_kernels(family):
    for graph, feeds in cases(family):
        assert_result(run_graph(graph, feeds, "cuda"), Interpreter(graph).step(feeds), graph.name)


@needs_cuda
def test_a_gpu_runs_a_lowered_graph():
    graph, feeds = lowered().integer, inputs()
    assert_result(run_graph(graph, feeds, "cuda"), Interpreter(graph).step(feeds), "cuda")
