"""The face for Python: `nnaq.lower` on torch modules and files, names that are found on first use."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from export.integer_graphs import one_node
from frontends.onnx_models import model
from frontends.torch_modules import OPTIONS, OUTPUTS, Speech, examples, noise

import nnaq
from nnaq.errors import DataError, FrontendError
from nnaq.interpret import run
from nnaq.modules import by_name, default_recipe


def test_a_module_is_lowered_from_arrays_or_tensors():
    recordings = [{"x": noise(40, 1)}, [torch.tensor(noise(40, 2))]]
    held_out = [{"x": noise(40, 3)}]
    recipe = default_recipe("speech").merged(activations="8")
    found = nnaq.lower(
        Speech().eval(), examples(), recordings, held_out, recipe, options=OPTIONS, outputs=OUTPUTS
    )
    y = run(found.crossing.integer, held_out[0]).outputs["y"]
    exact = run(found.crossing.real, held_out[0]).outputs["y"]
    assert np.abs(y - exact).max() < 0.02
    assert found.recipe.values["y"].dtype == "i8"
    assert found.crossing.options.target.name == "edge8"


def test_a_file_is_lowered_likewise(tmp_path):
    path = tmp_path / "tiny.onnx"
    weight = {"w": np.eye(4, 3, dtype=np.float32)}
    path.write_bytes(model("(float[T,4] x) => (float y) { y = MatMul(x, w) }", weight).SerializeToString())
    recordings = [{"x": np.random.default_rng(0).normal(size=(50, 4))}]
    found = nnaq.lower(path, calibration=recordings, options=nnaq.ImportOptions(time={"x": 0}))
    assert found.recipe.name == "tiny"
    assert [node.op for node in found.crossing.integer.nodes] == ["quantize", "fully_connected", "dequantize"]


def test_a_recording_with_too_few_arrays_is_refused():
    graph = one_node("add", ["i8[T,4]<0.1, 0>", "i8[T,4]<0.1, 0>"], ["i8[]<0.1, 0>"])
    with pytest.raises(DataError, match="takes x0, x1; found a recording of 1 arrays"):
        by_name(graph, [np.zeros((3, 4))])


@pytest.mark.parametrize("found", [{"y": np.zeros((3, 4))}, {"x0": 0, "x1": 0, "y": 0}, {}])
def test_a_recording_of_other_inputs_is_refused(found):
    graph = one_node("add", ["i8[T,4]<0.1, 0>", "i8[T,4]<0.1, 0>"], ["i8[]<0.1, 0>"])
    told = ", ".join(found) or "none"
    with pytest.raises(DataError, match=f"takes x0, x1; found a recording of {told}$"):
        by_name(graph, found)


def test_an_evaluation_recording_of_other_inputs_is_refused():
    with pytest.raises(DataError, match="takes x; found a recording of y"):
        nnaq.lower(Starred(), torch.zeros(2), [{"x": np.ones(2)}], [{"y": np.ones(2)}])


def test_a_bare_tensor_is_the_only_example_input():
    for example in (torch.zeros(2, 4), [torch.zeros(2, 4)]):
        graph = nnaq.load_module(torch.nn.Linear(4, 3), example).graph
        assert [(port.name, graph.types[port.name].shape) for port in graph.inputs] == [("input", (2, 4))]


class Starred(torch.nn.Module):
    def forward(self, x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        return torch.relu(x) if not rest else x + rest[0]


def test_starred_arguments_are_refused_unless_empty():
    assert [p.name for p in nnaq.load_module(Starred(), torch.zeros(2)).graph.inputs] == ["x"]
    with pytest.raises(FrontendError, match=r"forward takes \*rest.*, which nnaq does not support"):
        nnaq.load_module(Starred(), [torch.zeros(2), torch.zeros(2)])


def test_every_name_of_the_face_is_found():
    for name in nnaq.__all__:
        assert getattr(nnaq, name) is not None
    assert nnaq.load_module.__module__ == "nnaq.frontends.torch"
    assert set(nnaq.__all__) <= set(dir(nnaq))
    with pytest.raises(AttributeError, match="no attribute 'gellu'"):
        _ = nnaq.gellu


def test_importing_the_face_imports_no_library():
    heavy = "numpy numba torch onnx networkx pydantic".split()
    code = f"import sys, nnaq; print(*(set({heavy}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
