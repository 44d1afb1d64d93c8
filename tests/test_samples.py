"""The tiny nodes of `nnaq warm`: every operator has one, each crosses to integers and runs."""

import numpy as np
import pytest

import nnaq.kernels  # noqa: F401  (fills the operator table)
from nnaq.ir.op import lookup, table
from nnaq.speed import warm
from nnaq.speed.samples import samples

BOUNDARY = {"quantize", "dequantize", "rescale"}  # every sample has them around it


def test_every_operator_with_an_integer_form_has_a_sample():
    own = {name for name, op in table().items() if op.forms and op.body is None}
    assert {sample.op for sample in samples()} == own - BOUNDARY


@pytest.mark.parametrize("sample", samples(), ids=lambda s: f"{s.op}-{len(s.inputs)}-{len(s.constants)}")
def test_a_sample_means_something_for_one_frame_and_for_several(sample):
    graph = sample.graph()
    for frames in warm.FRAMES:
        feeds = sample.feeds(frames)
        operands = [feeds.get(name, graph.constants.get(name)) for name in graph.nodes[-1].inputs]
        made = lookup(sample.op).real(np, sample.attrs, *operands)
        assert all(np.isfinite(array).all() for array in made)


def test_variants_name_every_dtype_that_operand_and_result_may_have():
    (relu,) = [sample for sample in samples() if sample.op == "relu"]
    made = [(v.dtypes, v.squared, v.bits) for v in warm.variants(relu)]
    assert made == [
        ((("x0", "i16"), ("y0", "i16")), False, None),
        ((), True, None),
        ((("x0", "i8"), ("y0", "i8")), False, None),
    ]


def test_operators_that_pack_weights_are_run_with_packed_ones_too():
    layer = next(sample for sample in samples() if sample.op == "fully_connected")
    assert {v.bits for v in warm.variants(layer)} == {None, 4}


@pytest.mark.parametrize("name", ["relu", "maximum", "add"])
def test_warming_runs_what_a_lowering_may_choose(name):
    chosen = [v for sample in samples() if sample.op == name for v in warm.variants(sample)]
    assert [v for v in chosen if not v.squared and not warm.warm_variant(v)] == []


def test_a_choice_that_no_lowering_makes_is_passed_over():
    square = next(sample for sample in samples() if sample.op == "square")
    assert not warm.warm_variant(warm.Variant(square, (("x0", "i8"),)))
