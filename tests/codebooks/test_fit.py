"""Codes, table and scales of a weight: what is promised of every choice."""

from dataclasses import replace

import numpy as np
import pytest
from codebooks.parts import covering, generators, kinds, methods, plain_distortion, some_importance, weights
from hypothesis import given, settings
from hypothesis import strategies as st

from nnaq.codebooks.choice import PaletteChoice
from nnaq.codebooks.fit import LEAST_IMPORTANCE, Fitted, counted, fit_palette
from nnaq.codebooks.grid import histogram
from nnaq.codebooks.optimal import optimal
from nnaq.errors import LoweringError

choices = st.builds(
    PaletteChoice,
    st.integers(1, 8),
    method=methods,
    zero=st.sampled_from(("free", "forced", "mapped")),
    scale=st.sampled_from(("kept", "fitted")),
)
shared = st.integers(0, 3)


def float32_scales(matrix: np.ndarray) -> np.ndarray:
    return covering(matrix).astype(np.float32).astype(np.float64)


def values_of(fitted: Fitted, row: int) -> set[int]:
    """What a code of a row may be."""
    return set(fitted.palette.tables[fitted.palette.number(row)]) | (
        {0} if fitted.palette.zeros is not None else set()
    )


def lost(matrix: np.ndarray, fitted: Fitted, importance: np.ndarray) -> float:
    return float((importance * np.square(matrix - fitted.codes * fitted.scale[:, None])).sum())


@settings(max_examples=60)
@given(weights, choices, shared, generators, kinds)
def test_a_fit_is_legal_and_its_codes_are_the_nearest(matrix, choice, rows, generator, kind):
    importance = some_importance(generator, matrix, kind)
    scale = float32_scales(matrix)
    fitted = fit_palette(matrix, scale, choice, rows, importance)
    assert fitted.palette.bits == choice.bits
    assert fitted.palette.admits(matrix.shape)
    assert fitted.codes.dtype == np.int8 and fitted.codes.shape == matrix.shape
    for row, codes in enumerate(fitted.codes):
        values = values_of(fitted, row)
        assert 0 in values or choice.zero == "free"
        for weight, code in zip(matrix[row] / fitted.scale[row], codes.tolist(), strict=True):
            assert code == min(values, key=lambda value: (abs(value - weight), value))
    if choice.zero == "mapped":
        assert fitted.palette.zeros == (fitted.codes == 0).sum()
    else:
        assert fitted.palette.zeros is None


@settings(max_examples=60)
@given(weights, choices, shared)
def test_scales_stay_usable(matrix, choice, rows):
    scale = float32_scales(matrix)
    fitted = fit_palette(matrix, scale, choice, rows)
    assert np.isfinite(fitted.scale).all()
    assert (fitted.scale >= scale / 2).all()
    assert np.array_equal(fitted.scale, fitted.scale.astype(np.float32))
    kept = ~matrix.any(axis=1) if choice.scale == "fitted" else slice(None)
    assert np.array_equal(fitted.scale[kept], scale[kept])


@settings(max_examples=60)
@given(weights, choices, shared, generators, kinds)
def test_the_distortion_is_the_plain_one(matrix, choice, rows, generator, kind):
    importance = some_importance(generator, matrix, kind)
    fitted = fit_palette(matrix, float32_scales(matrix), choice, rows, importance)
    assert fitted.distortion == pytest.approx(lost(matrix, fitted, counted(importance, rows)), rel=1e-12)


@settings(max_examples=60)
@given(weights, choices, shared, generators, kinds)
def test_fitting_scales_never_loses_more_than_keeping_them(matrix, choice, rows, generator, kind):
    importance, scale = some_importance(generator, matrix, kind), float32_scales(matrix)
    kept = fit_palette(matrix, scale, replace(choice, scale="kept"), rows, importance)
    fitted = fit_palette(matrix, scale, replace(choice, scale="fitted"), rows, importance)
    magnitude = (counted(importance, rows) * np.square(matrix)).sum()
    assert fitted.distortion <= kept.distortion * (1 + 1e-9) + 1e-12 * magnitude


@settings(max_examples=60)
@given(weights, st.integers(1, 8), generators, kinds)
def test_fitted_scales_beat_the_best_table_under_one_scale(matrix, bits, generator, kind):
    importance, scale = counted(some_importance(generator, matrix, kind)), float32_scales(matrix)
    common = np.full(len(matrix), scale.max())
    best = optimal(histogram(matrix, common, importance), 2**bits)
    fitted = fit_palette(matrix, scale, PaletteChoice(bits), importance=importance)
    magnitude = (importance * np.square(matrix)).sum()
    limit = plain_distortion(matrix, common, importance, best)
    lost_by = lost(matrix, fitted, importance)
    assert lost_by <= limit * (1 + 2 * LEAST_IMPORTANCE) + 1e-12 * magnitude  # floored twice


def test_rows_of_different_size_share_a_table_by_scales_of_their_own():
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(16, 400)) * np.logspace(-3, 3, 16)[:, None]
    fitted = fit_palette(matrix, float32_scales(matrix), PaletteChoice(4))
    errors = np.square(matrix - fitted.codes * fitted.scale[:, None]).sum(axis=1)
    assert (10 * np.log10(np.square(matrix).sum(axis=1) / errors) > 18).all()


@settings(max_examples=40)
@given(weights, st.integers(1, 8), st.sampled_from((2.0**-90, 2.0**-20, 2.0**60, 2.0**500)))
def test_the_size_of_the_weights_does_not_matter(matrix, bits, size):
    scale = float32_scales(matrix)
    one = fit_palette(matrix, scale, PaletteChoice(bits))
    other = fit_palette(matrix * size, scale * size, PaletteChoice(bits))
    assert other.palette == one.palette
    assert np.array_equal(other.codes, one.codes)
    assert np.array_equal(other.scale, one.scale * size)


@settings(max_examples=40)
@given(weights, choices, generators)
def test_the_size_of_the_importance_does_not_matter(matrix, choice, generator):
    importance, scale = some_importance(generator, matrix, "columns"), float32_scales(matrix)
    one = fit_palette(matrix, scale, choice, importance=importance)
    other = fit_palette(matrix, scale, choice, importance=importance * 2.0**-300)
    assert np.array_equal(other.codes, one.codes)


@settings(max_examples=40)
@given(weights, choices)
def test_nothing_of_importance_is_everything_alike(matrix, choice):
    scale = float32_scales(matrix)
    none = fit_palette(matrix, scale, choice, importance=np.zeros((1, matrix.shape[1])))
    assert np.array_equal(none.codes, fit_palette(matrix, scale, choice).codes)
    assert none.distortion == fit_palette(matrix, scale, choice).distortion


@settings(max_examples=40)
@given(weights, st.integers(1, 4), st.sampled_from(("kept", "fitted")))
def test_each_group_of_rows_is_a_fit_of_its_own(matrix, rows, scale):
    choice = PaletteChoice(2, scale=scale)
    whole = fit_palette(matrix, float32_scales(matrix), choice, rows)
    for number, first in enumerate(range(0, len(matrix), rows)):
        part = slice(first, first + rows)
        alone = fit_palette(matrix[part], float32_scales(matrix)[part], choice)
        assert whole.palette.tables[number] == alone.palette.tables[0]
        assert np.array_equal(whole.codes[part], alone.codes)


@settings(max_examples=20)
@given(choices)
def test_weights_of_any_rank_and_of_no_size(choice):
    cube = np.random.default_rng(0).normal(size=(3, 2, 5)).astype(np.float32)
    scale = float32_scales(cube.reshape(3, 10))
    fitted = fit_palette(cube, scale, choice, importance=np.arange(10.0))
    flat = fit_palette(cube.reshape(3, 10), scale, choice, importance=np.arange(10.0)[None])
    assert np.array_equal(fitted.codes.reshape(3, 10), flat.codes)
    assert fit_palette(cube[0, 0], np.ones(5), choice).codes.shape == (5,)
    assert fit_palette(cube[:0], np.ones(0), choice).codes.shape == (0, 2, 5)
    assert fit_palette(cube[:, :0], scale, choice).codes.shape == (3, 0, 5)


def test_importance_decides_which_weights_are_met():
    matrix = np.array([[1.0, 50.0, 100.0, 127.0]])
    choice = PaletteChoice(1, scale="kept")
    first = fit_palette(matrix, np.ones(1), choice, importance=np.array([1.0, 1.0, 1e-6, 1e-6]))
    last = fit_palette(matrix, np.ones(1), choice, importance=np.array([1e-6, 1e-6, 1.0, 1.0]))
    assert first.palette.tables == ((1, 50),)
    assert last.palette.tables == ((100, 127),)


@pytest.mark.parametrize("scale", ["kept", "fitted"])
@pytest.mark.parametrize(("granularity", "rows"), [("per_channel", 1), ("per_tensor", 0)])
def test_a_row_without_importance_is_still_rounded_to_itself(granularity, rows, scale):
    matrix = np.random.default_rng(0).normal(size=(3, 40))
    importance = np.array([[1.0], [0.0], [2.0]])
    choice = PaletteChoice(4, granularity, scale=scale)
    plain = fit_palette(matrix, float32_scales(matrix), choice, rows)
    fitted = fit_palette(matrix, float32_scales(matrix), choice, rows, importance)
    lost_in_row = [np.square(matrix - f.codes * f.scale[:, None])[1].sum() for f in (plain, fitted)]
    assert lost_in_row[1] < 0.02 * np.square(matrix[1]).sum()
    assert lost_in_row[1] == lost_in_row[0] or not rows  # a table of its own is found as if all counted


def test_a_column_silent_in_calibration_costs_something():
    """Without a floor the weights of column 0, ten times the others, were clipped to the others' range."""
    matrix = np.random.default_rng(1).normal(size=(64, 16))
    matrix[:, 0] *= 10
    importance, choice = np.ones(16), PaletteChoice(4)
    importance[0] = 0
    scale = np.full(64, np.abs(matrix).max() / 127)
    fitted = fit_palette(matrix, scale, choice, importance=importance)
    error = np.square(matrix - fitted.codes * fitted.scale[:, None]).sum(axis=0)
    assert error[0] < 0.3 * np.square(matrix[:, 0]).sum()
    assert error[1:].sum() < 0.02 * np.square(matrix[:, 1:]).sum()


def test_importance_counts_at_least_a_share_of_the_mean_of_its_table():
    least = LEAST_IMPORTANCE
    assert counted(np.array([0.0, 4, 8])).tolist() == [[4 * least, 4, 8]]
    rows = np.array([[0.0, 2], [0, 0], [8, 0]])
    assert counted(rows, 1).tolist() == [[least, 2], [8 * least, 8 * least], [8, 4 * least]]
    assert counted(rows, 2).tolist() == [[0.5 * least, 2], [0.5 * least, 0.5 * least], [8, 4 * least]]
    assert counted(np.zeros((3, 2))).tolist() == [[1]]
    assert counted(np.zeros((0, 2)), 2).tolist() == [[1]]


@pytest.mark.parametrize("size", [4e-37, 3e-38])
def test_scales_of_tiny_weights_are_normal_float32(size):
    matrix = np.random.default_rng(2).normal(size=(4, 8)).astype(np.float32).astype(np.float64) * size
    tiny = float(np.finfo(np.float32).tiny)
    scale = np.maximum(float32_scales(matrix), tiny)
    fitted = fit_palette(matrix, scale, PaletteChoice(3))
    assert (fitted.scale >= tiny).all()
    assert np.array_equal(fitted.scale, fitted.scale.astype(np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("scale", ["kept", "fitted"])
def test_what_is_no_number_is_refused(value, scale):
    weight = np.ones((3, 4))
    with pytest.raises(LoweringError, match=r"importance of a weight of shape .* NaN, infinite or below 0"):
        fit_palette(weight, np.ones(3), PaletteChoice(3, scale=scale), importance=np.array([1, value, 1, 1]))
    weight[1, 2] = value
    with pytest.raises(LoweringError, match=r"shape \[3, 4\] has 1 values that are NaN or infinite"):
        fit_palette(weight, np.full(3, 0.01), PaletteChoice(3, scale=scale))


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_a_weight_without_rows_has_a_palette_that_admits_it(rows):
    fitted = fit_palette(np.zeros((0, 3)), np.ones(0), PaletteChoice(3, zero="mapped"), rows)
    assert fitted.palette.admits((0, 3)) and fitted.palette.zeros == 0
    assert (fitted.codes.shape, fitted.scale.shape) == ((0, 3), (0,))
