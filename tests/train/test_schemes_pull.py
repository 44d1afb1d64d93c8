"""The penalties: where they are 0 and 1, their slopes, their ramp, and the compressor."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from train.scheme_weights import a_weight, normal, parameter

from nnaq.errors import RecipeError
from nnaq.train.schemes import make_scheme
from nnaq.train.schemes.base import Progress
from nnaq.train.schemes.s8bqat import mracos

ALONE = torch.zeros(1, dtype=torch.int64)
tables = st.lists(st.integers(-127, 127), min_size=2, max_size=16, unique=True).map(sorted)


def pulled(values, table, normalised=False, room=16):
    """R of values under one table that is filled up to `room` entries."""
    filled = torch.tensor([[*table, *[table[-1]] * (room - len(table))]], dtype=torch.int16)
    return mracos(torch.as_tensor(values, dtype=torch.float64)[None], filled, ALONE, normalised)[0]


def plain(u, table, normalised):
    """R from its definition, one value at a time."""
    count, span = len(table), table[-1] - table[0]
    region = min(max(sum(u >= c for c in table) - 1, 0), count - 2)
    width = table[region + 1] - table[region]
    factor = width / span * count if normalised else 1.0
    if u < table[0] or u > table[-1]:
        return factor * np.pi * min(abs(u - table[0]), abs(u - table[-1])) / width
    return factor * abs(np.cos(np.pi * (u - (table[region] + table[region + 1]) / 2) / width))


@given(table=tables, normalised=st.booleans(), seed=st.integers(0, 999))
def test_mracos_is_its_definition(table, normalised, seed):
    values = np.random.default_rng(seed).uniform(-160, 160, 40)
    expected = [plain(u, table, normalised) for u in values]
    assert np.allclose(pulled(values, table, normalised), expected, atol=1e-9)


@given(table=tables)
def test_mracos_is_0_on_centroids_and_1_on_boundaries(table):
    assert pulled(table, table).abs().max() == 0 and pulled(table, table, True).abs().max() == 0
    middles = (np.array(table[1:]) + np.array(table[:-1])) / 2
    assert torch.allclose(pulled(middles, table), torch.ones(len(middles), dtype=torch.float64))
    widths = torch.tensor(np.diff(table) / (table[-1] - table[0]) * len(table))
    assert torch.allclose(pulled(middles, table, True), widths)


@settings(max_examples=20)
@given(table=tables, normalised=st.booleans(), seed=st.integers(0, 999))
def test_mracos_slopes_are_those_of_finite_differences(table, normalised, seed):
    values = torch.from_numpy(np.random.default_rng(seed).uniform(-150, 150, 30)).requires_grad_()
    pulled(values, table, normalised).sum().backward()
    step = 1e-5
    kinks = np.concatenate([table, (np.array(table[1:]) + np.array(table[:-1])) / 2])
    smooth = np.abs(values.detach().numpy()[:, None] - kinks).min(axis=1) > 1e-3
    with torch.no_grad():
        above, below = (pulled(values + side, table, normalised) for side in (step, -step))
    assert np.allclose(values.grad[smooth], ((above - below) / (2 * step))[smooth], atol=1e-4)


def test_mracos_is_a_v_at_centroids_and_flat_at_boundaries():
    table = (-60, -20, 0, 90)
    at = torch.tensor([-20 - 1e-6, -20.0, -20 + 1e-6, -40.0, 45.0], dtype=torch.float64, requires_grad=True)
    pulled(at, table).sum().backward()
    assert at.grad.tolist() == pytest.approx([-np.pi / 40, 0, np.pi / 20, 0, 0], abs=1e-6)
    outside = torch.tensor([-61.0, -100.0, 91.0, 120.0], dtype=torch.float64, requires_grad=True)
    pulled(outside, table).sum().backward()
    assert outside.grad.tolist() == pytest.approx([-np.pi / 40, -np.pi / 40, np.pi / 90, np.pi / 90])
    evened = torch.tensor([-59.999999, 0.000001, 130.0], dtype=torch.float64, requires_grad=True)
    pulled(evened, table, True).sum().backward()  # as strong in narrow regions as in wide ones
    assert evened.grad.tolist() == pytest.approx([np.pi * 4 / 150] * 3)


def test_a_lone_centroid_pulls_nothing():
    assert pulled([-3, 5, 200], (5,)).tolist() == [0, 0, 0]
    assert pulled([-3, 5, 200], (5,), True).tolist() == [0, 0, 0]


def test_every_row_is_pulled_to_its_own_table():
    weight = a_weight(normal(6, 11), 2, rows=2, granularity="per_group", group_size=2)
    scheme, at = make_scheme("s8bqat", weight), parameter(normal(6, 11, seed=4))
    found, units = scheme.distance(at).detach(), (scheme.matrix(at) / scheme.scale[:, None]).detach()
    for row in range(6):
        expected = pulled(units[row], scheme.table[row // 2].tolist(), True)
        assert torch.allclose(found[row].double(), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["s8bqat", "acosr"])
def test_lambda_rises_over_the_first_share(name):
    weight, at = a_weight(normal(4, 6), 3), parameter(normal(4, 6, seed=2))
    scheme = make_scheme(name, weight, {"strength": 3.0, "ramp": 0.25})
    full = scheme.distance(at).mean().item()
    found = []
    for step in (0, 10, 25, 60, 99):
        scheme.on_step_begin(Progress(step, 100))
        found.append(scheme.penalty(at).item() / full)
    assert found == pytest.approx([0, 1.2, 3, 3, 3])
    at_once = make_scheme(name, weight, {"strength": 3.0, "ramp": 0})
    assert at_once.penalty(at).item() == pytest.approx(3 * full)


@pytest.mark.parametrize("name", ["s8bqat", "acosr"])
def test_the_forward_pass_is_the_float_weights(name):
    weight, at = a_weight(normal(4, 6), 3), parameter(normal(4, 6, seed=2))
    assert make_scheme(name, weight).soft(at) is at


@settings(max_examples=20)
@given(bits=st.integers(1, 8), normalised=st.booleans())
def test_codes_that_ship_are_where_the_penalty_is_0(bits, normalised):
    weight, at = a_weight(normal(5, 7), bits), parameter(normal(5, 7, seed=2))
    for name, options in (("s8bqat", {"width_normalised": normalised}), ("acosr", {})):
        scheme = make_scheme(name, weight, options)
        on_levels = parameter(scheme.hard(at).reals())
        assert scheme.distance(on_levels).abs().max().item() < 1e-3 < scheme.distance(at).max().item()


def test_the_compressor_runs_when_it_is_due_and_after_the_last_step():
    weight = a_weight(normal(4, 6), 2)
    scheme = make_scheme("s8bqat", weight, {"compress_every": 4})
    seldom = make_scheme("s8bqat", weight, {"compress_every": 0})
    for step in range(10):
        at, other = parameter(normal(4, 6, seed=2)), parameter(normal(4, 6, seed=2))
        before, hard = at.detach().clone(), scheme.hard(at).reals()
        scheme.on_step_end(at, Progress(step, 10))
        seldom.on_step_end(other, Progress(step, 10))
        compressed = torch.equal(at.detach(), torch.from_numpy(hard))
        assert compressed == (step in (3, 7, 9)) and (compressed or torch.equal(at.detach(), before))
        assert torch.equal(other.detach(), before) == (step != 9)


def test_acosr_is_its_formula_inside_of_the_grid():
    value = normal(7, 9)
    for grid, bits in (("mid_rise", 3), ("mid_tread", 3), ("mid_rise", 7), ("mid_tread", 8)):
        scheme = make_scheme("acosr", a_weight(value, bits), {"grid": grid})
        hard, at = scheme.hard(parameter(value)), torch.from_numpy(value)
        step = scheme.scale[:, None] * (2 if grid == "mid_rise" else 1)
        wave = torch.cos if grid == "mid_rise" else torch.sin
        codes = at / scheme.scale[:, None]
        (table,) = hard.kind.palette.tables
        inside = (codes > table[0]) & (codes < table[-1])
        assert inside.float().mean() > 0.7
        assert torch.allclose(
            scheme.distance(at)[inside], wave(np.pi * at / step).abs()[inside], atol=2e-4 * 2**bits
        )
        edge = codes > table[-1]
        beyond = np.pi * (codes - table[-1]) / (2 if grid == "mid_rise" else 1)
        assert torch.allclose(scheme.distance(at)[edge], beyond[edge], atol=1e-4)
        assert set(np.diff(table)) == {2 if grid == "mid_rise" else 1} and len(table) >= 2**bits - 1


def test_acosr_is_mracos_on_its_own_grid():
    scheme, at = make_scheme("acosr", a_weight(normal(7, 9), 3)), parameter(normal(7, 9, seed=2))
    other = mracos(scheme.units(at), scheme.table, scheme.owner, False)
    assert torch.allclose(scheme.distance(at), other, atol=1e-5)


@pytest.mark.parametrize(
    ("choice", "said"),
    [({"bits": 8}, "256 mid-rise levels"), ({"bits": 2, "zero": "forced"}, "no mid-rise level is 0")],
)
def test_acosr_refuses_grids_that_cannot_be(choice, said):
    with pytest.raises(RecipeError, match=said):
        make_scheme("acosr", a_weight(normal(2, 3), **choice), {"grid": "mid_rise"})
    make_scheme("acosr", a_weight(normal(2, 3), **choice))


def test_acosr_shares_a_step_where_scales_are_kept():
    value = normal(6, 40)
    value[0, 0] = 4.0  # one outlier: its row alone should be clipped
    weight = a_weight(value, 2, scale="kept")
    ratio = make_scheme("acosr", weight).scale.numpy() / np.array(weight.kind.quant.scale)
    assert np.allclose(ratio, ratio[0])
    fitted = a_weight(value, 2, scale="fitted")
    free = make_scheme("acosr", fitted)
    assert np.ptp(free.scale.numpy() / np.array(weight.kind.quant.scale)) > 0.1
    errors = [
        np.square(s.hard(parameter(value)).reals() - value).sum()
        for s in (free, make_scheme("acosr", weight))
    ]
    assert errors[0] < errors[1]
