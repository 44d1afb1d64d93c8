"""What every scheme promises: codes that ship as they are, state that comes back, refusals that help."""

import copy
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from train.scheme_weights import a_weight, normal, parameter, weights

from nnaq.codebooks.coded import Coded
from nnaq.codebooks.fit import fit_palette
from nnaq.errors import RecipeError
from nnaq.kernels.boundary import code_type, quantize_array, quantize_attrs
from nnaq.kernels.codebook import find_indices
from nnaq.train.schemes import SCHEMES, make_scheme
from nnaq.train.schemes.base import Progress
from nnaq.train.schemes.palettes import widened

NAMES = tuple(SCHEMES)
TABLES = tuple(name for name in NAMES if name != "int8")
EVERY = 12  # cases per scheme


def assert_ships(hard: Coded, weight) -> None:
    """int8 codes in the weight's shape, all of them table entries, that their reals round to again."""
    quant, palette = hard.kind.quant, hard.kind.palette
    assert hard.codes.dtype == np.int8 and hard.codes.shape == weight.value.shape == hard.kind.shape
    assert quant is not None and quant.axis == weight.kind.quant.axis
    assert len(quant.scale) == len(weight.kind.quant.scale)
    assert all(scale == float(np.float32(scale)) for scale in quant.scale)
    assert np.array_equal(quantize_array(hard.reals(), hard.kind), hard.codes)
    assert hard.codes.min(initial=0) >= -127
    if palette is not None:
        assert palette.bits == weight.choice.bits and palette.admits(hard.codes.shape)
        find_indices(hard.codes, palette)  # refuses a code that its table does not hold
        assert (palette.zeros is not None) == (weight.choice.zero == "mapped")
        assert palette.zeros in (None, int((hard.codes == 0).sum()))
    assert code_type(quantize_attrs(hard.kind), hard.codes.shape) == hard.kind


def moved(value, share: float, seed: int = 1):
    """A parameter some way from the baseline, beyond its largest weight in places."""
    step = np.random.default_rng(seed).normal(size=value.shape) * share * np.abs(value).max(initial=0)
    return parameter((value + step).astype(np.float32))


def trained(scheme, at, steps: int = 3):
    """A few steps towards larger numbers, each of a hundredth of the largest weight."""
    largest = at.detach().abs().amax().item() if at.numel() else 0.0
    groups = [{"params": [at], "lr": 0.01 * largest}, {"params": list(scheme.parameters()), "lr": 0.01}]
    optimiser = torch.optim.Adam([group for group in groups if group["params"]])
    for step in range(steps):
        scheme.on_step_begin(Progress(step, steps))
        optimiser.zero_grad()
        loss = -(scheme.soft(at).sum()) + scheme.penalty(at)
        loss.backward()
        optimiser.step()
        scheme.on_step_end(at, Progress(step, steps))
    return at


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=EVERY)
@given(weight=weights(), share=st.sampled_from((0.0, 0.1, 2.0)))
def test_codes_ship_before_and_after_training(name, weight, share):
    scheme, at = make_scheme(name, weight), moved(weight.value, share)
    before, state = at.detach().clone(), {key: each.clone() for key, each in scheme.state_dict().items()}
    first, again = scheme.hard(at), scheme.hard(at)
    assert np.array_equal(first.codes, again.codes) and first.kind == again.kind
    assert torch.equal(at, before) and all(
        torch.equal(each, state[key]) for key, each in scheme.state_dict().items()
    )
    assert_ships(first, weight)
    assert_ships(scheme.hard(trained(scheme, at)), weight)
    assert torch.isfinite(at).all()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=EVERY)
@given(weight=weights())
def test_what_training_reads_is_finite_and_has_a_slope(name, weight):
    scheme, at = make_scheme(name, weight), moved(weight.value, 0.3)
    scheme.on_step_begin(Progress(1, 2))
    read, penalty = scheme.soft(at), scheme.penalty(at)
    assert read.shape == at.shape and read.dtype == at.dtype and penalty.shape == ()
    (read.sum() + penalty).backward()
    assert torch.isfinite(read).all() and torch.isfinite(penalty)
    assert all(
        torch.isfinite(each.grad).all() for each in (at, *scheme.parameters()) if each.grad is not None
    )
    assert at.grad is not None


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=EVERY)
@given(weight=weights())
def test_state_comes_back_whatever_the_baseline_was(name, weight):
    scheme, at = make_scheme(name, weight), moved(weight.value, 0.1)
    trained(scheme, at)
    other = replace(weight, value=normal(*weight.value.shape, seed=5))
    fresh = make_scheme(name, other)
    fresh.load_state_dict(scheme.state_dict())
    found, expected = fresh.hard(at), scheme.hard(at)
    if name != "int8":  # its scales have no state: they follow the parameter, down to half of the baseline's
        assert np.array_equal(found.codes, expected.codes) and found.kind == expected.kind
    same = make_scheme(name, weight)
    same.load_state_dict(scheme.state_dict())
    assert np.array_equal(same.hard(at).codes, expected.codes) and same.hard(at).kind == expected.kind


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("name", TABLES)
def test_every_width_uses_its_entries(name, bits):
    weight = a_weight(normal(33, 65), bits)
    palette = make_scheme(name, weight).hard(parameter(weight.value)).kind.palette
    assert palette is not None and palette.bits == bits
    (table,) = palette.tables
    assert len(table) > 0.7 * 2**bits
    assert len(table) == 2**bits or bits >= 6


@pytest.mark.parametrize("name", NAMES)
def test_an_error_shrinks_with_every_bit(name):
    value = normal(32, 48)
    errors = []
    for bits in range(1, 8):
        scheme = make_scheme(name, a_weight(value, bits))
        errors.append(float(np.square(scheme.hard(parameter(value)).reals() - value).mean()))
    if name == "int8":
        assert len(set(errors)) == 1  # whatever the palette
    else:
        assert all(later < earlier for earlier, later in pairwise(errors))


@settings(max_examples=30)
@given(weight=weights())
def test_straight_through_starts_with_the_codes_of_the_fit(weight):
    scheme = make_scheme("ste", weight)
    axis = weight.axis
    count = weight.value.shape[axis]
    choice = weight.choice if weight.kind.quant.axis is not None else replace(weight.choice, scale="kept")
    turned = np.moveaxis(weight.value.astype(np.float64), axis, 0)
    scale = np.broadcast_to(np.array(weight.kind.quant.scale), (count,))
    fitted = fit_palette(turned, scale, choice, weight.rows)
    assert np.array_equal(np.moveaxis(scheme.hard(parameter(weight.value)).codes, axis, 0), fitted.codes)


def test_straight_through_is_the_codes_forward_and_the_identity_backward():
    weight = a_weight(normal(5, 9), 2)
    scheme, at = make_scheme("ste", weight), moved(weight.value, 3.0)
    read = scheme.soft(at)
    slope = torch.from_numpy(normal(5, 9, seed=3))
    (read * slope).sum().backward()
    assert np.allclose(read.detach().numpy(), scheme.hard(at).reals(), atol=1e-6)
    assert torch.equal(at.grad, slope)


def test_int8_follows_the_parameter_or_keeps_its_scales():
    value = normal(4, 6)
    weight = a_weight(value)
    present, kept = make_scheme("int8", weight), make_scheme("int8", weight, {"scale": "kept"})
    larger = parameter(4 * value)
    assert np.abs(present.hard(larger).codes).max(axis=1).tolist() == [127] * 4
    assert np.allclose(present.hard(larger).reals(), 4 * value, atol=4 * 0.1 * 4 / 127 / 2)
    assert kept.hard(larger).kind.quant == weight.kind.quant
    assert np.abs(kept.hard(larger).reals()).max() <= np.abs(value).max() * 1.0001
    smaller = parameter(value / 100)  # down to half of the first scale, for the sake of the bias
    assert np.allclose(present.hard(smaller).kind.quant.scale, np.array(weight.kind.quant.scale) / 2)


def test_int8_of_one_scale_stays_one_and_within_127():
    weight = a_weight(normal(4, 6), axis=None)
    for scale in ("present", "kept"):
        scheme = make_scheme("int8", weight, {"scale": scale})
        hard = scheme.hard(parameter(-9 * np.abs(weight.value)))
        assert len(hard.kind.quant.scale) == 1 and hard.codes.min() == -127
        assert_ships(hard, weight)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("stee", {}, "no scheme 'stee'; did you mean 'ste'?"),
        ("xyz", {}, "no scheme 'xyz'; there are int8, ste"),
        ("ste", {"tau": 1}, "scheme 'ste' has no option 'tau'; it has none"),
        ("s8bqat", {"strenght": 1}, "scheme 's8bqat' has no option 'strenght'; did you mean 'strength'?"),
        (
            "s8bqat",
            {"strength": -1},
            "option 'strength' of scheme 's8bqat' is a number, at least 0; found -1",
        ),
        ("s8bqat", {"strength": float("nan")}, "is a number, at least 0; found nan"),
        ("s8bqat", {"ramp": 2}, "is a number, at least 0, at most 1; found 2"),
        ("s8bqat", {"compress_every": 1.5}, "is a whole number, at least 0; found 1.5"),
        ("s8bqat", {"compress_every": True}, "is a whole number, at least 0; found True"),
        ("s8bqat", {"width_normalised": 1}, "is true or false; found 1"),
        ("general_quantizer", {"initial": "loyd_max"}, "found 'loyd_max'; did you mean 'lloyd_max'?"),
        (
            "int8",
            {"scale": "fixed"},
            "option 'scale' of scheme 'int8' is one of present, kept; found 'fixed'",
        ),
        ("acosr", {"grid": []}, "is one of auto, mid_rise, mid_tread; found []"),
    ],
)
def test_a_mistake_is_told(name, options, said):
    with pytest.raises(RecipeError) as refusal:
        make_scheme(name, a_weight(normal(2, 3)), options)
    assert said in str(refusal.value)


def test_whole_numbers_are_reals_where_reals_are_expected():
    scheme = make_scheme("s8bqat", a_weight(normal(2, 3)), {"strength": 3})
    assert isinstance(scheme.options.strength, float)


def test_channels_on_the_second_axis_are_rows():
    value = normal(6, 5)
    across, along = a_weight(value, axis=1), a_weight(np.ascontiguousarray(value.T))
    for name in NAMES:
        one = make_scheme(name, across).hard(parameter(value))
        other = make_scheme(name, along).hard(parameter(np.ascontiguousarray(value.T)))
        assert np.array_equal(one.codes, other.codes.T) and one.kind.quant.scale == other.kind.quant.scale


def test_a_short_table_is_widened_in_its_gaps():
    assert widened((5,), 4) == [-94.0, -61.0, 5.0, 66.0]
    assert widened((-127, 127), 3) == [-127.0, 0.0, 127.0]
    assert widened((-3, 4), 2) == [-3.0, 4.0]
    for table in ((0,), (-127,), tuple(range(-20, 21))):
        found = widened(table, 255)
        assert len(set(found)) == 255 and found == sorted(found) and set(table) <= set(found)
        assert found[0] >= -127 and found[-1] <= 127


@pytest.mark.parametrize("name", TABLES)
def test_a_scheme_can_be_copied(name):
    scheme = make_scheme(name, a_weight(normal(3, 4), 2))
    at = parameter(normal(3, 4, seed=1))
    assert np.array_equal(copy.deepcopy(scheme).hard(at).codes, scheme.hard(at).codes)
