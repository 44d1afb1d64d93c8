"""Stages against each other: fake-quant graph and kernels, palettes and plain weights."""

from dataclasses import replace

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator
from train.crossings import codes, crossing, inputs

from nnaq.codebooks.choice import PaletteChoice
from nnaq.export.onnx import export_model
from nnaq.interpret import kernel, run
from nnaq.kernels.boundary import dequantize_array

FRAMES = 400


@pytest.mark.parametrize("activations", ["i8", "i16"])
def test_a_fake_quantised_layer_is_within_one_step_of_its_kernel(activations):
    """conv1d, fully_connected: fed the same codes they differ only where a tie or nearly one is rounded.

    The kernel requantises acc with a multiplier of relative error 2^-31 and a bias rounded by half a
    step of s_x * s_w; the fake-quant node rounds a float32 product. Both are within half a step of
    the same real but for these, so their codes differ by at most 1.
    """
    made = crossing(activations)
    compared = mismatches = 0
    values = {**made.integer.constants, **all_values(made.integer)}
    for node in made.integer.nodes:
        if node.op not in ("conv1d", "fully_connected"):
            continue
        meant = made.fake.node(node.name)
        integer = kernel(made.integer, node, "fast")(*(values[v] for v in node.inputs))[0].astype(np.int64)
        fake = codes(fake_result(made, meant, node, values), made.integer.types[node.outputs[0]])
        compared += integer.size
        mismatches += int((fake != integer).sum())
        assert np.abs(fake - integer).max() <= 1
    assert compared == 4400
    assert mismatches <= compared // 100  # near-ties are rare


def all_values(graph):
    names = [v for node in graph.nodes for v in node.outputs]
    return {**inputs(FRAMES), **run(graph, inputs(FRAMES), keep=names).values}


def fake_result(made, meant, node, values):
    """The fake-quant layer and its fake_quantize, fed the reals of the integer operands."""
    reals = [dequantize_array(values[v], made.integer.types[v]) for v in node.inputs[:2]]
    reals.append(made.real.constants[meant.inputs[2]])
    (raw,) = kernel(made.fake, meant, "fast")(*reals)
    (rounding,) = made.fake.readers[meant.outputs[0]]
    return kernel(made.fake, rounding, "fast")(raw)[0]


def test_the_whole_fake_quant_graph_follows_the_integers():
    """Through a recurrent state single steps add up; here the outputs stay within 2 steps of 8 bits."""
    made = crossing()
    (dequantize,) = (n for n in made.integer.nodes if n.op == "dequantize")
    kind = made.integer.types[dequantize.inputs[0]]
    fake = codes(run(made.fake, inputs(FRAMES)).outputs["y"], kind)
    integer = codes(run(made.integer, inputs(FRAMES)).outputs["y"], kind)
    assert np.abs(fake - integer).max() <= 2


def test_a_palette_of_16_codes_runs_and_exports_as_its_plain_weights():
    made = crossing(palettes={"fc.weight": PaletteChoice(4)})
    packed = made.integer
    kind = packed.types["fc.weight"]
    assert kind.palette is not None
    assert kind.palette.bits == 4
    assert set(np.unique(packed.constants["fc.weight"])) <= set(kind.palette.tables[0])
    assert packed.constants["fc.weight"].dtype == np.int8
    plain = replace(packed, types={**packed.types, "fc.weight": replace(kind, palette=None)})
    expected = run(plain, inputs())
    found = run(packed, inputs())
    assert np.array_equal(found.outputs["y"], expected.outputs["y"])
    for graph in (packed, plain):
        model = export_model(graph)
        stored = {tensor.name for tensor in model.graph.initializer}
        assert ("fc.weight" in stored) == (graph is plain)
        states = {state.input: graph.constants[state.initial] for state in graph.states}
        (file,) = ReferenceEvaluator(model).run(["y"], {**inputs(), **states})
        assert np.array_equal(file, expected.outputs["y"])
    assert not np.array_equal(run(crossing().integer, inputs()).outputs["y"], expected.outputs["y"])
