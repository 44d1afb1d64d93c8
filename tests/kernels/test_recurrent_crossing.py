"""LSTM and GRU: shapes, counts, what the crossing makes and what it refuses."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from recurrent_nodes import GRU, LSTM, Choice, Sizes, gru_node, gru_types, lstm_node, lstm_types, prepared

from nnaq.errors import LoweringError, OpError
from nnaq.ir.op import Op, Prepared, Work
from nnaq.ir.types import Quant, TensorType
from nnaq.targets.gemm import gemms, operand_dtypes


def reals(*shapes: tuple[int | str, ...]) -> tuple[TensorType, ...]:
    return tuple(TensorType("f32", shape) for shape in shapes)


LSTM_SHAPES = (("T", "B", 7), ("B", 3), ("B", 3), (12, 7), (12, 3), (12,))
PROJECTED_SHAPES = (("T", "B", 7), ("B", 2), ("B", 3), (9, 7), (9, 2), (9,), (2, 3))
NORMED_SHAPES = (*LSTM_SHAPES, (3, 3), (12,), (12,))
GRU_SHAPES = (("T", "B", 7), ("B", 3), (9, 7), (9, 3), (9,), (9,))


def test_infer_keeps_symbolic_time_and_batch() -> None:
    operands = reals(*LSTM_SHAPES)
    assert LSTM.infer(operands, {}) == (("T", "B", 3), ("B", 3), ("B", 3))
    assert LSTM.infer(operands[:5], {}) == LSTM.infer((*operands[:5], None), {})
    assert LSTM.infer(reals(*PROJECTED_SHAPES), {"cifg": True}) == (("T", "B", 2), ("B", 2), ("B", 3))
    operands = reals(*GRU_SHAPES)
    assert GRU.infer(operands, {}) == (("T", "B", 3), ("B", 3))
    assert GRU.infer(operands[:4], {}) == GRU.infer((*operands[:4], None, operands[5]), {})


@pytest.mark.parametrize(
    ("op", "shapes", "attrs", "position", "shape", "name"),
    [
        (LSTM, LSTM_SHAPES, {}, 1, (1, 3), "h0"),
        (LSTM, LSTM_SHAPES, {}, 2, ("B", 4), "c0"),
        (LSTM, LSTM_SHAPES, {}, 3, (12, 6), "w_input"),
        (LSTM, LSTM_SHAPES, {"cifg": True}, 3, (12, 7), "w_input"),
        (LSTM, LSTM_SHAPES, {}, 4, (12, 4), "w_recurrent"),
        (LSTM, LSTM_SHAPES, {}, 5, (3,), "bias"),
        (LSTM, PROJECTED_SHAPES, {"cifg": True}, 6, (3, 3), "w_projection"),
        (LSTM, PROJECTED_SHAPES, {"cifg": True}, 4, (9, 3), "w_recurrent"),
        (LSTM, NORMED_SHAPES, {}, 7, (3,), "norm_weight"),
        (LSTM, NORMED_SHAPES, {}, 8, (9,), "norm_bias"),
        (GRU, GRU_SHAPES, {}, 1, (1, 3), "h0"),
        (GRU, GRU_SHAPES, {}, 2, (12, 7), "w_input"),
        (GRU, GRU_SHAPES, {}, 3, (9, 4), "w_recurrent"),
        (GRU, GRU_SHAPES, {}, 4, (3,), "bias"),
        (GRU, GRU_SHAPES, {}, 5, (12,), "recurrent_bias"),
    ],
)
def test_infer_names_the_operand_that_does_not_fit(
    op: Op, shapes: Any, attrs: Any, position: int, shape: Any, name: str
) -> None:
    operands = list(reals(*shapes))
    operands[position] = TensorType("f32", shape)
    with pytest.raises(OpError, match=f"{op.name}: {name} has shape"):
        op.infer(tuple(operands), attrs)


@pytest.mark.parametrize(
    ("op", "operands", "message"),
    [
        (LSTM, reals(("B", 7), ("B", 3), ("B", 3), (12, 7), (12, 3)), "takes x"),
        (LSTM, reals(("T", "B", 7), ("B", "H"), ("B", "H"), (12, 7), (12, 3)), "whole number of units"),
        (LSTM, reals(("T", "B", 7), ("B", 3), ("B", 3), (12, 7)), "w_recurrent is missing"),
        (GRU, reals(("B", 7), ("B", 3), (9, 7), (9, 3)), "takes x"),
        (GRU, reals(("T", "B", 7), ("B", "H"), (9, 7), (9, 3)), "whole number of units"),
        (GRU, reals(("T", "B", 7), ("B", 3), (9, 7)), "w_recurrent is missing"),
    ],
)
def test_infer_refuses_other_operands(op: Op, operands: tuple[TensorType, ...], message: str) -> None:
    with pytest.raises(OpError, match=message):
        op.infer(operands, {})


# Work and products

SIZES = Sizes(4, 2, 7, 3)
STEPS = 4 * 2 * 3


@pytest.mark.parametrize(
    ("choice", "work", "products"),
    [
        (Choice(SIZES), Work(STEPS * 4 * (7 + 3), 9 * STEPS, 5 * STEPS), [(8, 12, 7, 1), (2, 12, 3, 4)]),
        (
            Choice(SIZES, cifg=True, projection=5),
            Work(STEPS * 3 * (7 + 5) + STEPS * 5, 9 * STEPS + 8 * 5, 4 * STEPS),
            [(8, 9, 7, 1), (2, 9, 5, 4), (2, 5, 3, 4)],
        ),
        (
            Choice(SIZES, normed=True),
            Work(STEPS * 4 * (7 + 3), 9 * STEPS + 5 * STEPS * 4, 5 * STEPS + 8 * 4),
            [(8, 12, 7, 1), (2, 12, 3, 4)],
        ),
    ],
)
def test_work_of_an_lstm_counts_products_and_lookups(choice: Choice, work: Work, products: Any) -> None:
    signature, _ = lstm_node(choice)
    assert LSTM.work(signature) == work
    found = gemms("lstm", signature)
    assert [(g.positions, g.outputs, g.depth, g.repeats) for g in found] == products
    assert sum(g.macs for g in found) == work.macs


@pytest.mark.parametrize("linear_before_reset", [True, False])
def test_work_of_a_gru_counts_products_and_lookups(linear_before_reset: bool) -> None:
    choice = Choice(SIZES, x="i16", linear_before_reset=linear_before_reset)
    signature, _ = gru_node(choice)
    assert GRU.work(signature) == Work(STEPS * 3 * (7 + 3), 9 * STEPS, 3 * STEPS)
    found = gemms("gru", signature)
    carried = [(2, 9, 3, 4)] if linear_before_reset else [(2, 6, 3, 4), (2, 3, 3, 4)]
    assert [(g.positions, g.outputs, g.depth, g.repeats) for g in found] == [(8, 9, 7, 1), *carried]
    assert sum(g.macs for g in found) == GRU.work(signature).macs
    assert operand_dtypes("gru", signature) == ("i16", "i8")


# The crossing


DEFAULT = Choice()


def prepare_with(op: Op, choice: Choice = DEFAULT, **changes: Any) -> Prepared:
    """Prepare a node of full weight codes, some of its operand types or values changed by position."""
    types = (lstm_types if op is LSTM else gru_types)(choice)
    kinds = list(types.inputs)
    for position, kind in changes.pop("kinds", {}).items():
        kinds[position] = kind
    values = {
        position: np.zeros(kind.shape) if position in op.reals else np.full(kind.shape, 127, np.int8)
        for position, kind in enumerate(types.inputs)
        if kind is not None and (position in op.reals or position in op.weights)
    }
    return prepared(
        op, replace(types, inputs=tuple(kinds)), values | changes.pop("values", {}), choice.rounding
    )


def constants(made: Prepared) -> dict[str, np.ndarray]:
    return {part.name: part.value for part in made.operands if not isinstance(part, int)}


@pytest.mark.parametrize("scale", [2.0**-8, 2.0**-16, 0.7 * 2.0**-11])
def test_the_cell_scale_must_be_a_power_of_two_in_reach(scale: float) -> None:
    with pytest.raises(LoweringError, match="the cell must be i16"):
        prepare_with(LSTM, kinds={2: TensorType("i16", (2, 3), Quant((scale,)))})


def test_results_must_keep_the_codes_of_their_states() -> None:
    coarse = TensorType("i16", (2, 3), Quant((2.0**-10,)))
    with pytest.raises(LoweringError, match="lstm: result c is i16"):
        prepare_with(LSTM, kinds={2: coarse})
    for op in (LSTM, GRU):
        with pytest.raises(LoweringError, match=f"{op.name}: result y is i8"):
            prepare_with(op, kinds={1: TensorType("i8", (2, 3), Quant((0.5,)))})


@pytest.mark.parametrize(("op", "position"), [(LSTM, 4), (LSTM, 6), (GRU, 2), (GRU, 3)])
def test_weights_must_be_constants(op: Op, position: int) -> None:
    with pytest.raises(LoweringError, match=f"{op.name}: .*must be constants"):
        prepare_with(op, Choice(projection=2), values={position: None})


@pytest.mark.parametrize("op", [LSTM, GRU])
def test_an_accumulator_that_could_wrap_is_refused(op: Op) -> None:
    """2^17 inputs of 127 * 255 reach beyond 2^31."""
    choice = Choice(Sizes(1, 1, 2**17, 1), zero_points=(127, 0))
    with pytest.raises(LoweringError, match=f"{op.name} w_input"):
        prepare_with(op, choice)
    with pytest.raises(LoweringError, match=f"{op.name} w_input"):
        prepare_with(op, values={op.reals[0]: np.full(12 if op is LSTM else 9, 1e9)})


def test_a_recurrent_bias_that_could_wrap_is_refused() -> None:
    with pytest.raises(LoweringError, match="gru w_recurrent"):
        prepare_with(GRU, values={5: np.full(9, 1e9)})


def test_a_projection_that_could_wrap_is_refused() -> None:
    choice = Choice(Sizes(1, 1, 1, 2**18), projection=1)
    with pytest.raises(LoweringError, match="lstm w_projection"):
        prepare_with(LSTM, choice)


@pytest.mark.parametrize(("op", "position", "rows"), [(LSTM, 3, 12), (GRU, 2, 9)])
def test_a_gate_multiplier_beyond_two_is_exact(op: Op, position: int, rows: int) -> None:
    """s_x * s_w / 2^-12 of up to 2^6 needs a left shift; the accumulator leaves room for it."""
    x, scales = TensorType("i8", (3, 2, 4), Quant((0.5,))), np.geomspace(1e-5, 0.03, rows)
    w_input = TensorType("i8", (rows, 4), Quant(tuple(scales.tolist()), 0, 0))
    made = constants(prepare_with(op, kinds={0: x, position: w_input}))
    assert made["input_shift"].max() == 6
    stored = made["input_multiplier"] * 2.0 ** (made["input_shift"] - 31.0)
    np.testing.assert_allclose(stored, 0.5 * scales * 4096, rtol=2.0**-30)


@pytest.mark.parametrize(("op", "position", "rows"), [(LSTM, 3, 12), (GRU, 2, 9)])
def test_a_gate_multiplier_out_of_reach_is_refused(op: Op, position: int, rows: int) -> None:
    x = TensorType("i8", (3, 2, 4), Quant((0.5,)))
    with pytest.raises(LoweringError, match="left shift of 15"):
        prepare_with(op, kinds={0: x, position: TensorType("i8", (rows, 4), Quant((9.0,)))})
    w_input = TensorType("i8", (rows, 4), Quant((2.0**-10,)))
    with pytest.raises(LoweringError, match="at most 1 is exact"):
        prepare_with(op, Choice(rounding="pot_shift"), kinds={0: x, position: w_input})


def test_one_scale_for_all_channels_is_admitted() -> None:
    made = constants(prepare_with(LSTM, kinds={3: TensorType("i8", (12, 4), Quant((0.01,)))}))
    assert made["input_multiplier"].shape == (12,)
    assert len(set(made["input_multiplier"].tolist())) == 1


def state(scale: float) -> TensorType:
    return TensorType("i8", (2, 3), Quant((scale,)))


@pytest.mark.parametrize(
    ("scale", "factor", "ratio"),
    [
        (2.0**-7, 2**8, 1.0),
        (2.0**-15, 1, 1.0),
        (0.009, 2**9, 0.009 * 2**6),
        (2.0**-17, 1, 0.25),
        (0.5, 2**14, 1.0),
    ],
)
def test_a_gru_reads_its_state_in_levels(scale: float, factor: int, ratio: float) -> None:
    """2^L * M = s_h * 2^15 with M in (1/2, 1], or L = 0."""
    types = gru_types(Choice())
    kinds = (types.inputs[0], state(scale), *types.inputs[2:])
    outputs = (state(scale).with_shape((3, 2, 3)), state(scale))
    values = {2: np.zeros((9, 4), np.int8), 3: np.zeros((9, 3), np.int8)}
    made = constants(prepared(GRU, replace(types, inputs=kinds, outputs=outputs), values, "single"))
    assert made["state_factor"].item() == factor
    found = made["state_multiplier"].item() * 2.0 ** (made["state_shift"].item() - 31)
    assert found == pytest.approx(ratio, rel=2.0**-30)


def test_a_state_too_coarse_for_levels_is_refused() -> None:
    types = gru_types(Choice())
    kinds = (types.inputs[0], state(0.75), *types.inputs[2:])
    outputs = (state(0.75).with_shape((3, 2, 3)), state(0.75))
    values = {2: np.zeros((9, 4), np.int8), 3: np.zeros((9, 3), np.int8)}
    with pytest.raises(LoweringError, match=r"the largest that can be read in Q0\.15 is 0\.5"):
        prepared(GRU, replace(types, inputs=kinds, outputs=outputs), values, "single")


def test_the_plain_lstm_keeps_its_attributes() -> None:
    assert prepare_with(LSTM).attrs == {"rounding": "single"}
    assert prepare_with(LSTM, Choice(cifg=True, projection=2)).attrs == {
        "rounding": "single", "cifg": True, "projected": True
    }  # fmt: skip


def test_a_norm_brings_its_constants_and_leaves_the_projection_out() -> None:
    made = prepare_with(LSTM, Choice(normed=True))
    assert made.attrs == {"rounding": "single", "normed": True, "epsilon": 1e-5}
    assert [part for part in made.operands if isinstance(part, int)] == [0, 1, 2, 3, 4, 6]
    found = constants(made)
    assert found["norm_weight"].shape == found["norm_bias"].shape == (12,)


def test_a_norm_of_one_parameter_assumes_the_other() -> None:
    """norm_bias alone: every weight is 1; norm_weight alone: every bias is 0."""
    for position, absent in ((7, 8), (8, 7)):
        types = lstm_types(Choice(normed=True))
        kinds = tuple(None if i == absent else kind for i, kind in enumerate(types.inputs))
        weights = {3: np.zeros((12, 4), np.int8), 4: np.zeros((12, 3), np.int8)}
        sparse = prepared(
            LSTM, replace(types, inputs=kinds), {**weights, position: np.full(12, 0.5)}, "single"
        )
        other = np.ones(12) if absent == 7 else np.zeros(12)
        full = prepared(LSTM, types, {**weights, position: np.full(12, 0.5), absent: other}, "single")
        for name, array in constants(full).items():
            np.testing.assert_array_equal(constants(sparse)[name], array, name)


def test_the_parameters_of_a_norm_must_be_constants() -> None:
    with pytest.raises(LoweringError, match="lstm: norm_bias must be a constant"):
        prepare_with(LSTM, Choice(normed=True), values={8: None})


def test_states_and_results_share_their_codes() -> None:
    assert LSTM.ties == ((1, ~0, ~1), (2, ~2))
    assert LSTM.demands == {2: "i16 power_of_two"}
    assert "i8 i8 i16 i8 i8 i32 i32 i8 i32 i8 i16 i16 i32 i8 -> i8 i8 i16" in LSTM.forms
    assert "i16 i16 i16 i8 i8 i48 i32 i8 i32 i8 i16 i16 i32 i8 -> i16 i16 i16" in LSTM.forms
    assert GRU.ties == ((1, ~0, ~1),)
    assert "i8 i16 i8 i4 i32 i48 i32 i8 i32 i8 i16 i16 i16 i32 i8 i32 i8 -> i16 i16" in GRU.forms
