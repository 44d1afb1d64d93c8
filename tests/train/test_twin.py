"""The twin of a module: called like it, its parameters under their own names, batch norm, ranges, states."""

import copy

import numpy as np
import pytest
import torch
from frontends.torch_modules import OPTIONS, OUTPUTS, Speech
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

import nnaq
from nnaq.errors import DataError, RecipeError
from nnaq.ir.types import TensorType
from nnaq.kernels.boundary import quantize_array
from nnaq.quantize.recipe import parse_recipe
from nnaq.quantize.scales import activation_quant
from nnaq.train.nodes import _of_range
from nnaq.train.ranges import widened
from nnaq.train.schemes.base import Progress

FEATURES = 6


class Normed(nn.Module):
    """Conv1d, BatchNorm1d, LSTM, Linear: [N,6,T] in, [T,N,3] out."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv1d(FEATURES, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm1d(8)
        self.lstm = nn.LSTM(8, 5)
        self.fc = nn.Linear(5, 3)

    def forward(self, x):
        frames = torch.relu(self.norm(self.conv(x))).permute(2, 0, 1)
        return self.fc(self.lstm(frames)[0])


OPEN = nnaq.ImportOptions(shapes={"x": ("N", FEATURES, "T")})


def sounds(batch=3, frames=11, seed=1):
    return torch.randn(batch, FEATURES, frames, generator=torch.Generator().manual_seed(seed))


def recipe(text=""):
    return parse_recipe(f'name = "small"\n[quantize]\nactivations = "8"\n{text}')


def settled(module):
    """Running statistics that have seen something."""
    module.train()
    with torch.no_grad():
        for seed in range(5):
            module(sounds(8, 20, seed))
    return module


def twin_of(text="", module=None):
    module = settled(Normed()) if module is None else module
    recordings = [{"x": sounds(2, 30, seed).numpy()} for seed in range(4)]
    return nnaq.prepare(module, sounds(), recipe(text), "edge8-sub8", recordings, OPEN)


def train(twin, steps=4, rate=1e-2):
    optimiser = torch.optim.Adam(twin.parameter_groups(rate))
    goal = torch.zeros(11, 3, 3)
    losses = []
    for step in range(steps):
        progress = Progress(step, steps)
        twin.train()
        twin.on_step_begin(progress)
        loss = (twin(sounds()) - goal).square().mean() + twin.penalty()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        twin.on_step_end(progress)
        losses.append(loss.item())
    return losses


def simulated(twin, x):
    return nnaq.run(nnaq.convert(twin), {"x": x.numpy()}).outputs["output"]


def test_a_twin_has_the_modules_own_parameters_and_buffers_under_their_own_names():
    module = settled(Normed())
    twin, names = twin_of(module=module), module.state_dict().keys()
    assert names <= twin.state_dict().keys()
    assert all(twin.get_parameter(name) is p for name, p in module.named_parameters())
    before = copy.deepcopy(module.state_dict())
    train(twin)
    moved = [name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])]
    assert {"conv.weight", "norm.weight", "norm.bias", "lstm.bias_hh_l0", "fc.bias"} <= set(moved)
    assert twin.norm is module.norm


def test_it_is_called_like_the_module_and_stays_near_it():
    module = settled(Normed()).eval()
    twin = twin_of(module=module).eval()
    for places in ((sounds(5, 7),), ()):
        named = {} if places else {"x": sounds(5, 7)}
        with torch.no_grad():
            found, expected = twin(*places, **named), module(sounds(5, 7))
        assert found.shape == expected.shape
        assert (found - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.parametrize(
    "text",
    [
        "",
        '[training]\nranges = "learned"\n',
        '[training]\nranges = "percentile"\nfreeze_ranges = 0.5\n',
        '[[overrides]]\nop = "lstm"\npalette = { bits = 3 }\n',
        '[training]\nemulate = "weights"\n[[overrides]]\nregex = ".*"\npalette = { bits = 2 }\n',
    ],
)
def test_training_lowers_the_loss_and_the_integers_stay_those_of_the_simulator(text):
    twin = twin_of(text)
    losses = train(twin, 12)
    assert losses[-1] < 0.9 * losses[0]
    for mode in (True, False):
        twin.train(mode)
        if mode and "weights" in text:
            continue  # activations in float while training
        with torch.no_grad():
            assert np.array_equal(twin(sounds()).numpy(), simulated(twin, sounds()))


def test_batch_norm_is_itself_in_float_before_the_fold_and_in_integers_from_then_on():
    twin = twin_of('[training]\nranges = "moving"\nfold_batch_norm = 0.5\n')
    twin.train()
    twin.on_step_begin(Progress(4, 10))
    before = twin.norm.running_mean.clone()
    plain = copy.deepcopy(twin._module[0]).train()
    assert torch.equal(twin(sounds()), plain(sounds()))
    assert not torch.equal(twin.norm.running_mean, before)
    twin.on_step_begin(Progress(5, 10))
    after = twin.norm.running_mean.clone()
    with torch.no_grad():
        folded = twin(sounds()).numpy()
    assert np.array_equal(folded, simulated(twin, sounds()))
    assert torch.equal(twin.norm.running_mean, after)
    twin.eval()
    with torch.no_grad():
        assert np.array_equal(twin(sounds()).numpy(), folded)
    assert not twin._module[0].training


def test_choices_that_exclude_each_other_are_refused():
    refused = {
        "fold_batch_norm = 0.5": "ranges must be found after it",
        'ranges = "moving"\nfold_batch_norm = 0.95': "fold earlier",
        'ranges = "learned"\nemulate = "weights"': "learned ranges need emulate",
        'scheme = "lsq"': "is for weights with a palette, and none has one",
        'scheme = "nonsense"': "no scheme 'nonsense'",
    }
    for text, why in refused.items():
        with pytest.raises(RecipeError, match=why):
            twin_of(f"[training]\n{text}\n")
    often = (
        '[[overrides]]\nop = "lstm"\npalette = { bits = 4 }\n'
        '[training]\nscheme = { name = "general_quantizer", every = 2 }\n'
    )
    with pytest.raises(RecipeError, match="with every = 2 scheme 'general_quantizer' reads float weights"):
        twin_of(often)
    assert twin_of(f'{often}emulate = "weights"\n')
    four = parse_recipe(
        'name = "f"\n[quantize]\nweight_bits = 4\n[[overrides]]\nop = "lstm"\nscheme = "lsq"\n'
    )
    with pytest.raises(RecipeError, match="take a palette of 4 bits in place of weight_bits = 4"):
        nnaq.prepare(Normed(), sounds(), four, options=OPEN)
    with pytest.raises(DataError, match="one has no 'x'"):
        nnaq.prepare(Normed(), sounds(), calibration=[{"y": sounds()}], options=OPEN)


def test_a_state_dict_decides_every_integer():
    trained = twin_of()
    train(trained)
    other = twin_of(module=settled(Normed(7)))
    assert nnaq.convert(other) != nnaq.convert(trained)
    other.load_state_dict(trained.state_dict())
    assert nnaq.convert(other) == nnaq.convert(trained)


def test_a_copy_is_a_twin_of_its_own():
    twin = twin_of('[[overrides]]\nop = "lstm"\npalette = { bits = 3 }\n')
    copied = copy.deepcopy(twin)
    before = nnaq.convert(twin)
    train(copied)
    assert nnaq.convert(twin) == before != nnaq.convert(copied)


class Derived(nn.Module):
    """What a graph makes of parameters and buffers: a quotient, a mask, an index, a transposed product."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.temperature = nn.Parameter(torch.tensor(2.0))
        self.w = nn.Parameter(torch.randn(6, 6))
        self.register_buffer("mask", torch.ones(6, 6).tril().bool())
        self.register_buffer("order", torch.tensor([2, 0, 1, 3, 4, 5]))

    def forward(self, x):
        scores = (x @ self.w / self.temperature).masked_fill(~self.mask, -torch.inf)
        return torch.softmax(scores, -1)[..., self.order]


@pytest.mark.parametrize("scheme", ["s8bqat", "dkm", "ste"])
def test_what_follows_from_parameters_follows_them_and_the_rest_stays(scheme):
    module = Derived()
    text = f'[training]\nscheme = "{scheme}"\n[[overrides]]\nregex = ".*"\npalette = {{ bits = 4 }}\n'
    x = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(1))
    twin = nnaq.prepare(module, x, recipe(text), options=nnaq.ImportOptions(shapes={"x": ("N", 6, 6)}))
    twin(x)[..., 0].square().sum().backward()
    assert module.temperature.grad.any() and module.w.grad.any()
    before, product = twin(x).detach(), module.w.detach().clone()
    twin.on_step_end(Progress(0, 1))
    assert torch.equal(module.w, product)  # the weight is its transpose: no scheme's to change
    with torch.no_grad():
        module.temperature.mul_(4)
        assert not torch.equal(twin(x), before)
        assert np.array_equal(
            twin(x).numpy(), nnaq.run(nnaq.convert(twin), {"x": x.numpy()}).outputs["output"]
        )


@pytest.mark.parametrize(("low", "high"), [(-2.0, 1.0), (-1.0, 2.0)])
@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_the_gradient_of_a_learned_range_is_that_of_what_it_clamps(dtype, low, high):
    """Values far outside: clamping moves with its end; against finite differences of the clamp."""
    size = max(-low, high)
    ends = (low, high) if dtype == "i8" else (-size, size)
    quant = activation_quant(low, high, dtype, exact=True)
    kind = TensorType(dtype, (40,), quant)
    real = torch.linspace(-9, 9, 40)  # none within half a step of an end, where clamping changes no code
    codes = torch.from_numpy(quantize_array(real.numpy(), kind))
    found = 40**0.5 * _of_range(torch.tensor([low, high]), real, codes, kind, torch.ones(40))
    outside = torch.tensor([(real < ends[0]).sum(), (real > ends[1]).sum()]).float()
    if dtype == "i16":
        difference = outside[1] - outside[0]
        expected = torch.tensor([0.0, difference]) if high >= -low else torch.tensor([-difference, 0.0])
    else:
        expected = outside
    rounding = 40 * 0.5 / (255 if dtype == "i8" else 32767)  # what e / n adds up to, at most
    assert (found - expected).abs().max() <= rounding


ENDS = st.floats(1e-4, 100.0)


@given(ENDS | st.just(0.0), ENDS)
@example(0.0006, 0.888)
@example(0.17, 100.0)
@example(100.0, 0.17)
@example(127.5, 127.5)  # zero_point 0 at the first scale, which is half a step short
def test_widened_ranges_hold_what_they_widen_and_stay_within_four_times_of_it(below, above):
    low, high = widened(-below, above, "i8")
    scale = (high - low) / 255
    assert low <= -below and above <= high
    assert np.log2(scale).is_integer()
    assert (low / scale).is_integer() and -255 <= low / scale <= 0
    assert scale < 4 * (above + below) / 255
    _, size = widened(-below, above, "i16")
    assert size >= max(below, above) * (1 - 2**-50) and np.log2(size / 32767).is_integer()


def test_the_fold_uses_the_running_statistics_of_that_moment():
    twin = twin_of().eval()
    before = nnaq.convert(twin)
    with torch.no_grad():
        twin.norm.running_var.mul_(4)
    assert nnaq.convert(twin) != before
    with torch.no_grad():
        assert np.array_equal(twin(sounds()).numpy(), simulated(twin, sounds()))


def test_the_gradient_through_the_fold_is_that_of_the_module():
    """16-bit activations: fine grids, so that both point the same way."""
    module = settled(Normed()).eval()
    text = 'name = "fine"\n[quantize]\nactivations = "16"\n'
    twin = nnaq.prepare(module, sounds(), parse_recipe(text), "edge8", options=OPEN)
    module(sounds()).square().sum().backward()
    plain = {name: p.grad.clone() for name, p in module.named_parameters()}
    module.zero_grad()
    twin(sounds()).square().sum().backward()
    for name, parameter in module.named_parameters():
        cosine = torch.cosine_similarity(plain[name].flatten(), parameter.grad.flatten(), 0)
        assert cosine > 0.999, name


def test_states_are_taken_and_handed_on_like_the_modules():
    zeros = torch.zeros(1, 1, 6)
    x = torch.randn(1, 4, 12, generator=torch.Generator().manual_seed(2))
    twin = nnaq.prepare(Speech(0), (x, zeros, zeros), recipe(), options=OPTIONS, outputs=OUTPUTS)
    with torch.no_grad():
        whole, *last = twin(x, zeros, zeros)
        first, *states = twin(x[:, :, :4])  # states left out are the initial ones
    assert len(states) == len(last) == 2
    assert first.shape == (4, 1, 3) and whole.shape == (12, 1, 3)


def test_ranges_move_towards_what_they_see_and_stay_when_frozen():
    twin = twin_of('[training]\nranges = "moving"\nmomentum = 0.5\nfreeze_ranges = 0.5\n')
    twin.train()
    twin.on_step_begin(Progress(0, 10))
    before = twin.nnaq_ranges.ranges()["x"]
    with torch.no_grad():
        twin(10 * sounds())
    moved = twin.nnaq_ranges.ranges()["x"]
    seen = (10 * sounds()).min().item(), (10 * sounds()).max().item()
    assert moved == pytest.approx([(a + b) / 2 for a, b in zip(before, seen, strict=True)])
    twin.on_step_begin(Progress(5, 10))
    with torch.no_grad():
        twin(100 * sounds())
    assert twin.nnaq_ranges.ranges()["x"] == moved


def test_percentiles_forget_outliers():
    twin = twin_of('[training]\nranges = "percentile"\nmomentum = 0.0\n')
    twin.train()
    twin.on_step_begin(Progress(0, 10))
    loud = sounds(40, 100)
    loud[0, 0, 0] = 1e4
    with torch.no_grad():
        twin(loud)
    assert twin.nnaq_ranges.ranges()["x"][1] < 10


def test_scales_are_powers_of_two_where_asked():
    twin = twin_of("[training]\npower_of_two = true\n")
    integer = nnaq.convert(twin)
    weights = {name for name in integer.constants if name.startswith(("conv", "lstm", "fc"))}
    kinds = {v: k for v, k in integer.types.items() if k.quant is not None and v not in weights}
    chosen = [kinds[v] for v in ("x.fq", "relu", "output.codes")]
    assert all(np.log2(kind.scale).is_integer() for kind in chosen)


def test_learned_ranges_move_by_their_gradient_until_frozen():
    twin = twin_of('[training]\nranges = "learned"\nfreeze_ranges = 0.5\n')
    before = twin.nnaq_ranges.table.detach().clone()
    train(twin, 4)
    assert not torch.equal(twin.nnaq_ranges.table, before)
    twin.on_step_begin(Progress(9, 10))
    twin.zero_grad()
    twin(sounds()).square().sum().backward()
    assert twin.nnaq_ranges.table.grad is None or not twin.nnaq_ranges.table.grad.any()


def test_another_devices_operators_give_the_same_codes():
    """Forced on the CPU: what runs where Numba does not; see nnaq.train.devices."""
    twin = twin_of('[[overrides]]\nop = "lstm"\npalette = { bits = 3 }\n').eval()
    plain, forced = (twin.integers(sounds(), force_device_path=force) for force in (False, True))
    assert plain.keys() == forced.keys()
    assert all(torch.equal(plain[name], forced[name]) for name in plain)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="not run on a GPU: none here")
def test_a_twin_on_a_gpu_computes_the_codes_of_the_cpu():
    twin = twin_of().eval()
    expected = twin.integers(sounds())
    found = twin.to("cuda").integers(sounds().cuda())
    assert all(torch.equal(found[name].cpu(), expected[name]) for name in expected)


def test_bad_calls_are_refused_in_a_sentence():
    twin = twin_of()
    with pytest.raises(DataError, match=r"the twin takes x; input 'x' is missing"):
        twin()
    with pytest.raises(DataError, match=r"the twin takes x; found an input 'y'"):
        twin(sounds(), y=sounds())
    with pytest.raises(DataError, match=r"the twin takes x; found 2 inputs"):
        twin(sounds(), sounds())
    equal = parse_recipe('name = "e"\n[quantize]\nrepair = ["equalize_layers"]\n')
    with pytest.raises(RecipeError, match="equalize_layers mends weights once"):
        nnaq.prepare(Normed(), sounds(), equal, options=OPEN)
    kept = parse_recipe('name = "k"\ncodebooks = "codebooks.npz"\n')
    with pytest.raises(RecipeError, match=r"keeps the codes .* in codebooks\.npz, and another training"):
        nnaq.prepare(Normed(), sounds(), kept, options=OPEN)
