"""What schemes learn or find anew: steps, centroids, clusters."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from train.scheme_weights import a_weight, normal, parameter

from nnaq.train.schemes import make_scheme
from nnaq.train.schemes.attention import attend, count_below
from nnaq.train.schemes.base import Progress
from nnaq.train.schemes.general_quantizer import compress, expand

ALONE = torch.zeros(1, dtype=torch.int64)


def softmax(values, centroids, alpha):
    """p of every value, [n, K], term by term."""
    return torch.softmax(-alpha * (values[:, None] - centroids).abs(), dim=1)


def case(seed, count, spread=1.0):
    generator = np.random.default_rng(seed)
    values = torch.from_numpy(generator.uniform(-1.4, 1.4, 50) * spread)
    return values, torch.from_numpy(np.sort(generator.uniform(-1, 1, count))) * spread


# softmax without its terms


@given(st.integers(0, 999), st.sampled_from((2, 3, 4, 16, 33, 40)), st.floats(0.1, 200))
def test_attention_is_the_softmax(seed, count, alpha):
    values, centroids = case(seed, count)
    attention = attend(values[None], centroids[None], ALONE, torch.tensor([[alpha]], dtype=torch.float64))
    p = softmax(values, centroids, alpha)
    assert torch.allclose(attention.means()[0], p @ centroids, atol=1e-10)
    assert torch.allclose(attention.gathered(torch.ones(1, 50).double())[0], p.sum(dim=0), atol=1e-9)
    assert torch.allclose(attention.gathered(values[None])[0], values @ p, atol=1e-9)
    for place in (0, 7, 49):  # the probabilities of one value: they sum to 1
        one = torch.zeros(1, 50, dtype=torch.float64)
        one[0, place] = 1
        assert torch.allclose(attention.gathered(one)[0], p[place], atol=1e-10)
        assert float(attention.gathered(one).sum()) == pytest.approx(1)


@settings(max_examples=30)
@given(st.integers(0, 999), st.sampled_from((2, 5, 16)), st.floats(0.5, 50))
def test_attention_has_the_gradients_of_the_softmax(seed, count, alpha):
    values, centroids = (each.requires_grad_() for each in case(seed, count))
    slope = torch.from_numpy(np.random.default_rng(seed + 1).normal(size=50))
    attention = attend(values[None], centroids[None], ALONE, torch.tensor([[alpha]], dtype=torch.float64))
    found = torch.autograd.grad((attention.means()[0] * slope).sum(), (values, centroids))
    p, sign = softmax(values, centroids, alpha), torch.sign(values[:, None] - centroids)
    mean = (p @ centroids)[:, None]
    by_value = alpha * (p * ((p * sign).sum(dim=1, keepdim=True) - sign) * centroids).sum(dim=1)
    by_centroid = p * (1 + alpha * sign * (centroids - mean))
    assert torch.allclose(found[0], by_value * slope, atol=1e-8)
    assert torch.allclose(found[1], slope @ by_centroid, atol=1e-8)


def test_attention_keeps_tables_apart():
    (values, first), (others, second) = case(1, 6), case(2, 6)
    owner, alpha = torch.tensor([0, 1]), torch.tensor([[3.0], [20.0]], dtype=torch.float64)
    rows, tables = torch.stack([values, others]), torch.stack([first, second])
    attention = attend(rows, tables, owner, alpha)
    for row, hardness in ((0, 3.0), (1, 20.0)):
        p = softmax(rows[row], tables[row], hardness)
        assert torch.allclose(attention.means()[row], p @ tables[row])
        assert torch.allclose(attention.gathered(rows)[row], rows[row] @ p)


@given(st.integers(0, 999), st.sampled_from((0, 1, 5, 32, 33, 60)), st.integers(1, 3), st.booleans())
def test_counting_borders(seed, count, tables, equal):
    generator = np.random.default_rng(seed)
    values, borders = (
        generator.integers(-9, 10, (4, 6)) / 2,
        np.sort(generator.integers(-9, 10, (tables, count))),
    )
    owner = np.arange(4) % tables
    found = count_below(
        torch.from_numpy(values), torch.from_numpy(borders / 2.0), torch.from_numpy(owner), equal
    )
    own, each = borders[owner][:, None] / 2.0, values[:, :, None]
    assert np.array_equal(found.numpy(), (own <= each if equal else own < each).sum(axis=2))


# LSQ


def lsq_gradients(value, step, low, high, slope):
    """Those of the formula: by the weights, and by the step before its factor."""
    ratio = value / step
    inside = (ratio >= -low) & (ratio <= high)
    by_step = np.where(inside, np.rint(ratio) - ratio, np.clip(ratio, -low, high))
    return slope * inside, (slope * by_step).sum()


@pytest.mark.parametrize("bits", range(2, 9))
def test_lsq_is_its_formula(bits):
    value, slope = normal(8, 12), normal(8, 12, seed=7)
    scheme, at = make_scheme("lsq", a_weight(value, bits)), parameter(value)
    low, high = min(2 ** (bits - 1), 127), 2 ** (bits - 1) - 1
    step = 2 * np.abs(value.astype(np.float64)).mean() / np.sqrt(high)
    assert float(scheme.start) == pytest.approx(step, rel=1e-6)
    read = scheme.soft(at)
    (read * torch.from_numpy(slope)).sum().backward()
    expected = step * np.rint(np.clip(value / np.float64(step), -low, high))
    assert np.allclose(read.detach().numpy(), expected, atol=1e-6)
    assert np.allclose(scheme.hard(at).reals(), expected, atol=1e-6)
    by_weight, by_step = lsq_gradients(value.astype(np.float64), step, low, high, slope)
    assert np.allclose(at.grad.numpy(), by_weight)
    factor = 1 / np.sqrt(high * value.size)
    assert float(scheme.ratio.grad) == pytest.approx(step * factor * by_step, rel=1e-3, abs=1e-7)


def test_lsq_slopes_are_differences_where_nothing_is_rounded_anew():
    """Beyond the clip wq = Q s: a difference; inside, with the rounding error held, wq = w + s (k - w/s)."""
    value, step = np.array([[-5.0, -2.4, 0.3, 0.9, 7.0]]), 1.0
    change = 1e-6
    kept = np.rint(np.clip(value / step, -2, 1))
    surrogate = [
        np.where((value / s >= -2) & (value / s <= 1), value + s * (kept - value / step), s * kept)
        for s in (step - change, step + change)
    ]
    _, by_step = lsq_gradients(value, step, 2, 1, np.ones_like(value))
    assert by_step == pytest.approx((surrogate[1] - surrogate[0]).sum() / (2 * change))


def test_lsq_has_a_step_for_all_that_share_a_table():
    value = normal(8, 12) * np.repeat([1, 2, 4, 8], 2)[:, None].astype(np.float32)
    scheme = make_scheme("lsq", a_weight(value, 3, rows=2, granularity="per_group", group_size=2))
    means = np.abs(value).reshape(4, 24).mean(axis=1)
    assert np.allclose(scheme.start.numpy(), 2 * means / np.sqrt(3), rtol=1e-5)
    single = make_scheme("lsq", a_weight(value, 3, None, 2, granularity="per_group", group_size=2))
    assert len(single.ratio) == 1  # the kind has one scale


def test_lsq_of_one_bit_is_the_sign_times_the_mean():
    value = normal(6, 8)
    hard = make_scheme("lsq", a_weight(value, 1)).hard(parameter(value))
    assert hard.kind.palette.tables == ((-1, 1),)
    assert np.allclose(hard.reals(), np.where(value > 0, 1, -1) * np.abs(value).mean(), rtol=1e-5)
    mapped = make_scheme("lsq", a_weight(value, 1, zero="mapped")).hard(parameter(value))
    assert mapped.kind.palette.tables == ((-1, 1),) and (mapped.codes == 0).any()
    forced = make_scheme("lsq", a_weight(value, 1, zero="forced")).hard(parameter(value))
    assert forced.kind.palette.tables == ((-1, 0),)


def test_lsq_never_falls_below_half_of_the_plain_scale():
    weight = a_weight(normal(6, 8), 4)
    scheme, at = make_scheme("lsq", weight), parameter(normal(6, 8))
    with torch.no_grad():
        scheme.ratio.fill_(-1.0)
    scheme.on_step_end(at, Progress(0, 1))
    assert scheme.hard(at).kind.quant.scale == pytest.approx([max(weight.kind.quant.scale) / 2] * 6)


# the general quantizer


@given(st.floats(-1, 1), st.sampled_from((0.001, 15.0, 255.0)))
def test_companding_is_undone(x, mu):
    value = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    y = compress(value, mu)
    assert expand(y, mu).item() == pytest.approx(x, abs=1e-12)
    assert y.item() == pytest.approx(np.sign(x) * np.log1p(mu * abs(x)) / np.log1p(mu), abs=1e-12)
    (slope,) = torch.autograd.grad(y, value)
    assert float(slope) == pytest.approx(mu / ((1 + mu * abs(x)) * np.log1p(mu)), rel=1e-9)
    level = y.detach().requires_grad_()
    (back,) = torch.autograd.grad(expand(level, mu), level)
    assert float(back * slope) == pytest.approx(1, rel=1e-9)


def soft_at(scheme, at, share):
    scheme.on_step_begin(Progress(int(share * 1000), 1000))
    return scheme.soft(at)


def test_gq_is_its_formula():
    weight = a_weight(normal(9, 20), 3)
    scheme, at = make_scheme("general_quantizer", weight), parameter(normal(9, 20))
    read = soft_at(scheme, at, 0.4).detach().double()
    c = scheme.centroids.detach().double()[0]
    alpha = 2 * 32**0.4 / ((c[-1] - c[0]) / (len(c) - 1))
    reach, scale = scheme.reach.double(), scheme.scale.double()[:, None]
    z = compress((at.detach().double() / scale / reach).clamp(-1, 1), 15.0)
    p = torch.softmax(-alpha * (z[..., None] - c).abs(), dim=2)
    assert torch.allclose(read, scale * reach * expand(p @ c, 15.0), atol=1e-5)


def test_gq_anneals_from_2_to_64():
    scheme = make_scheme("general_quantizer", a_weight(normal(3, 4), 2))
    found = []
    for step in (0, 50, 100):
        scheme.on_step_begin(Progress(step, 100))
        found.append(scheme.hardness)
    assert found == pytest.approx([2, 2 * 32**0.5, 64])


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 8])
def test_gq_gathers_on_what_ships(bits):
    value = normal(16, 64)
    scheme, at = make_scheme("general_quantizer", a_weight(value, bits), {"last": 1e4}), parameter(value)
    gaps = [
        float(np.square(soft_at(scheme, at, share).detach().numpy() - scheme.hard(at).reals()).mean())
        for share in (0, 0.3, 0.6, 1)
    ]
    assert all(later < earlier for earlier, later in pairwise(gaps))
    step = float(scheme.scale.max())  # of the int8 grid, that the soft centroids are not on
    assert gaps[-1] < max((0.05 * value.std()) ** 2, step**2)


def test_gq_facts_of_evenly_spread_weights():
    """At every a the mean slope is 1; the distance to the hard staircase falls as 1 / sqrt(a)."""
    centroids = torch.linspace(-1, 1, 8, dtype=torch.float64)
    values = torch.linspace(-1, 1, 20001, dtype=torch.float64, requires_grad=True)
    spacing = 2 / 7
    tops, gaps = [], []
    for hardness in (1, 2, 4, 8, 16, 32):
        alpha = torch.tensor([[hardness / spacing]], dtype=torch.float64)
        soft = attend(values[None], centroids[None], ALONE, alpha).means()[0]
        (slopes,) = torch.autograd.grad(soft.sum(), values)
        nearest = centroids[(values.detach()[:, None] - centroids).abs().argmin(dim=1)]
        tops.append(softmax(values.detach(), centroids, hardness / spacing).amax(dim=1).mean().item())
        gaps.append(float((soft - nearest).detach().square().mean().sqrt()) / spacing)
        inner = values.detach().abs() < 3 * spacing / 2  # whole staircases, away from the ends
        assert float(slopes[inner].mean()) == pytest.approx(1, abs=0.12)
    assert tops == pytest.approx([0.39, 0.62, 0.82, 0.91, 0.96, 0.98], abs=0.06)
    assert gaps[3:] == pytest.approx([0.155, 0.11, 0.08], abs=0.02)
    assert gaps[5] / gaps[3] == pytest.approx(0.5, abs=0.05)


def test_gq_sorts_centroids_that_passed_each_other():
    weight, at = a_weight(normal(5, 8), 3), parameter(normal(5, 8))
    one, other = (make_scheme("general_quantizer", weight) for _ in range(2))
    other.centroids.data = other.centroids.data[:, [3, 0, 7, 1, 2, 6, 5, 4]]
    assert torch.equal(one.soft(at), other.soft(at))
    assert np.array_equal(one.hard(at).codes, other.hard(at).codes)
    other.soft(at).square().sum().backward()
    one.soft(at).square().sum().backward()
    assert torch.equal(one.centroids.grad[:, [3, 0, 7, 1, 2, 6, 5, 4]], other.centroids.grad)


def test_gq_reads_hard_weights_with_soft_slopes():
    weight, slope = a_weight(normal(5, 8), 2), torch.from_numpy(normal(5, 8, seed=3))
    one, other = (make_scheme("general_quantizer", weight, {"forward": word}) for word in ("soft", "hard"))
    at, same = parameter(weight.value), parameter(weight.value)
    (one.soft(at) * slope).sum().backward()
    read = other.soft(same)
    (read * slope).sum().backward()
    assert np.allclose(read.detach().numpy(), other.hard(same).reals(), atol=1e-7)
    assert not np.allclose(one.soft(at).detach().numpy(), read.detach().numpy(), atol=1e-3)
    assert torch.allclose(at.grad, same.grad) and torch.allclose(one.centroids.grad, other.centroids.grad)


def test_gq_quantises_every_so_many_steps():
    weight, at = a_weight(normal(5, 8), 2), parameter(normal(5, 8))
    scheme = make_scheme("general_quantizer", weight, {"every": 3})
    read = []
    for step in range(7):
        scheme.on_step_begin(Progress(step, 7))
        read.append(scheme.soft(at) is at)
    assert read == [False, True, True, False, True, True, False]


@pytest.mark.parametrize("initial", ["lloyd_max", "optimal", "uniform", "mu_law"])
def test_gq_starts_where_it_is_told(initial):
    value = normal(16, 64)
    scheme = make_scheme("general_quantizer", a_weight(value, 3), {"initial": initial})
    table = scheme.hard(parameter(value)).kind.palette.tables[0]
    steps = np.diff(table)
    assert (np.ptp(steps) <= 1) == (initial == "uniform")
    tables = [make_scheme("ste", a_weight(value, 3, method=initial)).table[0].tolist()]
    assert list(table) == tables[0]


@pytest.mark.parametrize("zero", ["forced", "mapped"])
def test_gq_and_dkm_keep_the_zero_they_were_told_to(zero):
    value = normal(6, 20)
    for name in ("general_quantizer", "dkm"):
        scheme, at = make_scheme(name, a_weight(value, 2, zero=zero)), parameter(value + np.float32(0.02))
        for each in scheme.parameters():
            each.data += 0.05
        scheme.on_step_end(at, Progress(0, 1))
        hard = scheme.hard(at)
        (table,) = hard.kind.palette.tables
        assert (0 in table) == (zero == "forced") and len(table) == 4


def test_gq_brings_centroids_back_to_int8():
    scheme, at = make_scheme("general_quantizer", a_weight(normal(6, 20), 2)), parameter(normal(6, 20))
    scheme.centroids.data *= 50
    scheme.on_step_end(at, Progress(0, 1))
    assert scheme.hard(at).kind.palette.tables[0][0] == -127
    assert scheme.hard(at).kind.palette.tables[0][-1] == 127


# DKM


def test_dkm_converges_to_the_clusters_of_k_means():
    generator = np.random.default_rng(3)
    centres = np.array([-0.9, -0.2, 0.3, 1.0])
    value = (centres[generator.integers(0, 4, (6, 40))] + 0.02 * generator.normal(size=(6, 40))).astype(
        np.float32
    )
    start = (value + 0.1 * generator.normal(size=value.shape)).astype(np.float32)
    scheme = make_scheme("dkm", a_weight(start, 2, scale="kept", axis=None), {"iterations": 50, "tau": 0.02})
    at = parameter(value)
    scheme.on_step_end(at, Progress(0, 1))
    found = scheme.centroids.double()[0].sort().values.numpy() * float(scheme.scale[0])
    nearest = np.abs(value[..., None] - centres).argmin(axis=2)
    means = [value[nearest == k].mean() for k in range(4)]
    assert found == pytest.approx(means, abs=1e-3)
    assert np.allclose(scheme.soft(at).detach().numpy(), np.array(means)[nearest], atol=2e-3)
    assert np.allclose(scheme.hard(at).reals(), np.array(means)[nearest], atol=float(scheme.scale[0]))


def test_dkm_rounds_are_their_formula():
    value = normal(4, 30)
    scheme, at = (
        make_scheme("dkm", a_weight(value, 2), {"iterations": 2, "tau": 0.3, "tolerance": 0}),
        parameter(value),
    )
    scale = scheme.scale.double()[:, None]
    u, v = at.detach().double() / scale, scale.square().expand(4, 30)
    c = scheme.centroids.double()[0]
    alpha = 1 / (0.3 * float((c[-1] - c[0]) / 3))
    for _ in range(2):
        p = softmax(u.reshape(-1), c, alpha) * v.reshape(-1, 1)
        c = (p * u.reshape(-1, 1)).sum(dim=0) / p.sum(dim=0)
    expected = (softmax(u.reshape(-1), c, alpha) @ c).reshape(4, 30) * scale
    assert torch.allclose(scheme.soft(at).double(), expected, atol=1e-6)
    slopes = torch.autograd.grad(scheme.soft(at).square().sum(), at)[0]
    assert float(slopes.abs().sum()) > 0


def test_dkm_stops_once_centroids_rest():
    value = normal(4, 30)
    scheme, at = make_scheme("dkm", a_weight(value, 2), {"iterations": 100}), parameter(value)
    calls = []
    inner = scheme._round
    scheme._round = lambda *arguments: (calls.append(1), inner(*arguments))[1]
    scheme.on_step_end(at, Progress(0, 1))
    first = len(calls)
    scheme.on_step_end(at, Progress(0, 1))
    assert 1 < first < 100 and len(calls) - first < first
