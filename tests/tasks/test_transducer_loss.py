"""The transducer's loss against all of its paths written out, finite differences and closed forms."""

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnaq.errors import DataError
from nnaq.tasks import transducer_lattice
from nnaq.tasks import transducer_loss as transducer
from nnaq.tasks.transducer_loss import transducer_loss

CASES = settings(max_examples=40)


pytestmark = pytest.mark.usefixtures("one_thread")


def drawn(seed, frames, labels, symbols, batch=1, blank=0, dtype=torch.float64):
    """Logits of spread 2 and targets without the blank."""
    own = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(batch, frames, labels + 1, symbols, generator=own, dtype=torch.float64)
    targets = torch.randint(0, max(symbols - 1, 1), (batch, labels), generator=own)
    return logits.to(dtype).requires_grad_(), targets + (targets >= blank)


def whole(logits, targets):
    """Lengths without padding."""
    batch, frames, nodes, _ = logits.shape
    return torch.full((batch,), frames), torch.full((batch,), nodes - 1)


def by_paths(logits, targets, blank=0):
    """The loss of one utterance [T, U + 1, V] from its definition: every order of blanks and labels."""
    log_p = logits.log_softmax(-1)
    frames, labels = len(logits), len(targets)
    paths = []
    for written in combinations(range(frames + labels - 1), labels):
        t = u = 0
        total = log_p.new_zeros(())
        for step in range(frames + labels):
            if step in written:
                total, u = total + log_p[t, u, targets[u]], u + 1
            else:
                total, t = total + log_p[t, u, blank], t + 1
        assert (t, u) == (frames, labels)
        paths.append(total)
    return -torch.logsumexp(torch.stack(paths), 0)


def gradient_of(loss, logits):
    (found,) = torch.autograd.grad(loss, logits)
    return found


sizes = st.tuples(st.integers(1, 4), st.integers(0, 4), st.integers(2, 4))


@CASES
@given(sizes, st.integers(0, 2**32 - 1), st.data())
def test_loss_and_gradient_are_those_of_all_paths(size, seed, data):
    blank = data.draw(st.integers(0, size[2] - 1))
    logits, targets = drawn(seed, *size, blank=blank)
    loss = transducer_loss(logits, targets, *whole(logits, targets), blank=blank)
    expected = by_paths(logits[0], targets[0], blank)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    found, wanted = gradient_of(loss, logits), gradient_of(expected, logits)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradient_agrees_with_finite_differences(reduction):
    logits, targets = drawn(0, 3, 2, 4, batch=2)
    lengths = torch.tensor([3, 2]), torch.tensor([1, 2])
    assert torch.autograd.gradcheck(
        lambda x: transducer_loss(x, targets, *lengths, reduction=reduction), logits
    )


def test_gradient_agrees_with_finite_differences_along_a_line_on_a_long_utterance():
    logits, targets = drawn(1, 60, 25, 12)
    lengths = whole(logits, targets)
    slope = gradient_of(transducer_loss(logits, targets, *lengths), logits)
    way, step = (
        torch.randn(logits.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)),
        1e-4,
    )
    with torch.no_grad():
        above, below = (transducer_loss(logits + s * way, targets, *lengths) for s in (step, -step))
    torch.testing.assert_close((slope * way).sum(), (above - below) / (2 * step), rtol=1e-6, atol=1e-6)


@CASES
@given(st.data(), st.integers(0, 2**32 - 1), st.sampled_from([torch.float32, torch.float64]))
def test_an_utterance_in_a_batch_is_the_utterance_alone_whatever_its_padding_holds(data, seed, dtype):
    logits, targets = drawn(seed, 5, 4, 3, batch=3, dtype=dtype)
    frames = data.draw(st.lists(st.integers(1, 5), min_size=3, max_size=3))
    labels = data.draw(st.lists(st.integers(0, 4), min_size=3, max_size=3))
    trash = data.draw(st.sampled_from([math.nan, math.inf, -math.inf]))
    with torch.no_grad():
        for b, (t, u) in enumerate(zip(frames, labels, strict=True)):
            logits[b, t:] = logits[b, :, u + 1 :] = trash
            targets[b, u:] = data.draw(st.sampled_from([0, -7, 99]))
    losses = transducer_loss(logits, targets, torch.tensor(frames), torch.tensor(labels), reduction="none")
    found = gradient_of(losses.sum(), logits)
    for b, (t, u) in enumerate(zip(frames, labels, strict=True)):
        alone = logits[b : b + 1, :t, : u + 1].detach().clone().requires_grad_()
        loss = transducer_loss(alone, targets[b : b + 1, :u], torch.tensor([t]), torch.tensor([u]))
        assert torch.equal(losses[b], loss)
        assert torch.equal(found[b, :t, : u + 1], gradient_of(loss, alone)[0])
        assert not found[b, t:].any()
        assert not found[b, :, u + 1 :].any()


def test_mean_is_over_utterances_and_sum_is_their_sum():
    logits, targets = drawn(3, 4, 3, 5, batch=3)
    arguments = logits, targets, torch.tensor([4, 2, 3]), torch.tensor([3, 1, 0])
    each = transducer_loss(*arguments, reduction="none")
    assert each.shape == (3,)
    mean, total = transducer_loss(*arguments), transducer_loss(*arguments, reduction="sum")
    assert torch.equal(mean, each.mean())
    assert torch.equal(total, each.sum())
    for upstream in ([0.0, 0.0, 1.0], [0.5, -2.0, 0.25]):
        (found,) = torch.autograd.grad(each, logits, torch.tensor(upstream), retain_graph=True)
        weights = torch.tensor(upstream, dtype=torch.float64)[:, None, None, None]
        torch.testing.assert_close(
            found, gradient_of(transducer_loss(*arguments, reduction="sum"), logits) * weights
        )


def test_without_labels_the_loss_is_the_sum_of_blanks():
    logits, targets = drawn(4, 7, 0, 5)
    loss = transducer_loss(logits, targets, *whole(logits, targets), blank=2)
    torch.testing.assert_close(loss, -logits.log_softmax(-1)[0, :, 0, 2].sum())


def test_one_frame_has_one_path():
    logits, targets = drawn(5, 1, 6, 4)
    log_p = logits.log_softmax(-1)[0, 0]
    expected = -(log_p[range(6), targets[0]].sum() + log_p[6, 0])
    torch.testing.assert_close(transducer_loss(logits, targets, *whole(logits, targets)), expected)


@pytest.mark.parametrize(("frames", "labels", "symbols"), [(50, 20, 30), (3, 90, 7), (1, 1, 2), (4, 0, 1)])
def test_equal_logits_count_the_paths(frames, labels, symbols):
    logits = torch.full((1, frames, labels + 1, symbols), 3.25, dtype=torch.float64)
    targets = torch.ones(1, labels, dtype=torch.int32)
    steps = frames + labels
    expected = steps * math.log(symbols) - math.log(math.comb(steps - 1, labels))
    loss = transducer_loss(logits, targets, *whole(logits, targets))
    assert loss.item() == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_float32_loses_only_its_own_rounding():
    logits, targets = drawn(6, 40, 15, 20, batch=2, dtype=torch.float32)
    exact = logits.detach().double().requires_grad_()
    lengths = torch.tensor([40, 31]), torch.tensor([15, 7])
    loss, expected = transducer_loss(logits, targets, *lengths), transducer_loss(exact, targets, *lengths)
    assert (loss.dtype, expected.dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)
    found, wanted = gradient_of(loss, logits), gradient_of(expected, exact)
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_logits_of_16_bits_are_read_as_float32_and_their_gradient_is_rounded_once(dtype):
    logits, targets = drawn(7, 6, 3, 5, batch=2, dtype=dtype)
    wide = logits.detach().float().requires_grad_()
    lengths = torch.tensor([6, 4]), torch.tensor([1, 3])
    loss, expected = transducer_loss(logits, targets, *lengths), transducer_loss(wide, targets, *lengths)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)
    found = gradient_of(loss, logits)
    assert found.dtype == dtype
    assert torch.equal(found, gradient_of(expected, wide).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0.0, 1e4, -1e4])
def test_extreme_logits_stay_finite_and_as_accurate(dtype, offset):
    own = torch.Generator().manual_seed(8)
    logits = (1e4 * torch.randint(-1, 2, (2, 9, 5, 6), generator=own) + offset).to(dtype).requires_grad_()
    targets = torch.randint(1, 6, (2, 4), generator=own)
    exact = logits.detach().double().requires_grad_()
    loss, expected = (transducer_loss(x, targets, *whole(x, targets)) for x in (logits, exact))
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=1e-5)
    found, wanted = gradient_of(loss, logits), gradient_of(expected, exact)
    assert found.isfinite().all()
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-5)
    assert found.sum(-1).abs().max() < 1e-5


def test_a_common_offset_changes_nothing_even_in_float32():
    logits, targets = drawn(9, 8, 4, 6, dtype=torch.float32)
    coarse = (logits.detach() * 64).round() / 64  # exact beside an offset of 2^14
    near, far = coarse.requires_grad_(), (coarse.detach() + 2.0**14).requires_grad_()
    losses = [transducer_loss(x, targets, *whole(x, targets)) for x in (near, far)]
    assert torch.equal(*losses)
    assert torch.equal(gradient_of(losses[0], near), gradient_of(losses[1], far))


def test_a_forbidden_symbol_has_probability_zero():
    logits, targets = drawn(10, 3, 2, 4)
    with torch.no_grad():
        logits[0, 1, :, targets[0, 0]] = -math.inf  # its other frames still reach the target
    loss = transducer_loss(logits, targets, *whole(logits, targets))
    torch.testing.assert_close(loss, by_paths(logits[0], targets[0]))
    assert gradient_of(loss, logits).isfinite().all()


def test_an_utterance_without_a_path_or_with_nan_spoils_no_other():
    logits, targets = drawn(11, 3, 2, 4, batch=3)
    clean = transducer_loss(logits, targets, *whole(logits, targets), reduction="none")
    wanted = gradient_of(clean.sum(), logits)
    with torch.no_grad():
        logits[0, :, 0, targets[0, 0]] = -math.inf
        logits[1, 2, 1, 3] = math.nan
    losses = transducer_loss(logits, targets, *whole(logits, targets), reduction="none")
    assert losses[0] == math.inf
    assert losses[1].isnan()
    assert torch.equal(losses[2], clean[2])
    found = gradient_of(losses.sum(), logits)
    assert found[0].isnan().any() and found[1].isnan().any()
    assert torch.equal(found[2], wanted[2])


def test_blocks_strides_and_a_second_backward_change_no_bit(monkeypatch):
    logits, targets = drawn(12, 9, 4, 5, batch=2, dtype=torch.float32)
    lengths = torch.tensor([9, 6]), torch.tensor([2, 4])
    loss = transducer_loss(logits, targets, *lengths)
    (found,) = torch.autograd.grad(loss, logits, retain_graph=True)
    assert torch.equal(found, gradient_of(loss, logits))
    strided = logits.detach().permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0).requires_grad_()
    for block, source in ((1, logits), (60, logits), (2**18, strided)):
        monkeypatch.setattr(transducer, "CPU_BLOCK", block)
        again = transducer_loss(source, targets, *lengths)
        assert torch.equal(loss, again)
        assert torch.equal(found, gradient_of(again, source))


@CASES
@given(sizes, st.integers(0, 2**32 - 1), st.data())
def test_anti_diagonals_and_compiled_loops_make_the_same_tables(size, seed, data):
    frames = data.draw(st.lists(st.integers(1, size[0]), min_size=2, max_size=2))
    labels = data.draw(st.lists(st.integers(0, size[1]), min_size=2, max_size=2))
    logits, targets = drawn(seed, *size, batch=2)
    with torch.no_grad():
        logits[0, 0, 0, 0] = data.draw(st.sampled_from([0.0, 1e4, -math.inf]))
    blank, label, *_ = transducer._log_probabilities(logits.detach(), targets, frames, labels, 0)
    alpha = transducer_lattice.alphas(blank, label, frames, labels)
    beta = transducer_lattice.betas(blank, label, frames, labels)
    diagonal = transducer_lattice.diagonal_alphas(blank, label)
    torch.testing.assert_close(
        transducer_lattice.diagonal_betas(blank, label, frames, labels), beta, rtol=1e-13, atol=1e-13
    )
    for b, (t, u) in enumerate(zip(frames, labels, strict=True)):
        here = b, slice(t), slice(u + 1)
        torch.testing.assert_close(diagonal[here], alpha[here], rtol=1e-13, atol=1e-13)
        ends = alpha[b, t - 1, u] + blank[b, t - 1, u]
        torch.testing.assert_close(ends, beta[b, 0, 0], rtol=1e-12, atol=1e-12)


def test_a_device_without_compiled_loops_gets_the_same_loss_and_gradient(monkeypatch):
    logits, targets = drawn(13, 7, 4, 5, batch=3)
    lengths = torch.tensor([7, 1, 5]), torch.tensor([4, 3, 0])
    loss = transducer_loss(logits, targets, *lengths)
    found = gradient_of(loss, logits)
    diagonals = transducer_lattice
    monkeypatch.setattr(
        transducer, "alphas", lambda blank, label, *_: diagonals.diagonal_alphas(blank, label)
    )
    monkeypatch.setattr(transducer, "betas", diagonals.diagonal_betas)
    again = transducer_loss(logits, targets, *lengths)
    torch.testing.assert_close(again, loss, rtol=1e-13, atol=0)
    torch.testing.assert_close(gradient_of(again, logits), found, rtol=0, atol=1e-13)


LOGITS = torch.zeros(2, 3, 3, 4)
GOOD = {
    "logits": LOGITS,
    "targets": torch.tensor([[1, 2], [3, 1]]),
    "logit_lengths": torch.tensor([3, 1]),
    "target_lengths": torch.tensor([2, 0]),
}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"logits": LOGITS[0]}, r"logits are torch.float32 of shape \[3, 3, 4\]; give floats of shape"),
        ({"logits": LOGITS.long()}, r"logits are torch.int64"),
        (
            {"logits": LOGITS[:, :0]},
            r"logits have shape .* no axis may be empty, as every path needs a frame",
        ),
        ({"targets": torch.ones(2, 2)}, r"targets are torch.float32; give a tensor of integers"),
        ({"targets": torch.ones(2, 2, dtype=torch.bool)}, r"targets are torch.bool"),
        ({"targets": [[1, 2], [3, 1]]}, r"targets are list"),
        ({"targets": torch.ones(2, 3, dtype=torch.long)}, r"targets have shape \[2, 3\].* ask for \[2, 2\]"),
        (
            {"targets": torch.tensor([[1, 0], [3, 1]])},
            r"targets\[0, 1\] is 0, the blank; give labels of 0 … 3",
        ),
        ({"targets": torch.tensor([[1, 4], [3, 1]])}, r"targets\[0, 1\] is 4, no index of the logits"),
        ({"targets": torch.tensor([[-1, 2], [3, 1]])}, r"targets\[0, 0\] is -1, no index of the logits"),
        ({"logit_lengths": torch.tensor([3])}, r"logit_lengths have shape \[1\].* ask for \[2\]"),
        ({"logit_lengths": torch.tensor([3.0, 1.0])}, r"logit_lengths are torch.float32"),
        (
            {"logit_lengths": torch.tensor([3, 0])},
            r"logit_lengths\[1\] is 0; .*last blank of every path needs a frame",
        ),
        (
            {"logit_lengths": torch.tensor([4, 1])},
            r"logit_lengths\[0\] is 4; the logits allow 1 … 3: correct",
        ),
        (
            {"target_lengths": torch.tensor([2, 3])},
            r"target_lengths\[1\] is 3; the logits allow 0 … 2: correct",
        ),
        (
            {"target_lengths": torch.tensor([-1, 0])},
            r"target_lengths\[0\] is -1; the logits allow 0 … 2: correct",
        ),
        ({"blank": 4}, r"blank is 4; give its index among the logits, 0 … 3"),
        ({"blank": -1}, r"blank is -1"),
        ({"reduction": "average"}, r"reduction is 'average'; it must be 'mean', 'sum' or 'none'"),
    ],
)
def test_contradictions_are_named(wrong, says):
    assert transducer_loss(**GOOD).isfinite()
    with pytest.raises(DataError, match=f"^transducer_loss: {says}"):
        transducer_loss(**{**GOOD, **wrong})


@pytest.mark.parametrize("blank", ["0", 0.0, -1, 9])
def test_a_blank_that_is_no_index_is_refused(blank):
    with pytest.raises(DataError, match=r"blank is .*; give its index among the logits"):
        transducer_loss(
            torch.zeros(1, 2, 2, 3), torch.ones(1, 1), torch.tensor([2]), torch.tensor([1]), blank
        )


def test_logits_that_are_no_tensor_are_refused():
    with pytest.raises(DataError, match="logits are list; give a tensor"):
        transducer_loss([[0.0]], torch.ones(1, 1), torch.tensor([2]), torch.tensor([1]))
