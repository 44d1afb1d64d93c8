"""Context that is attended to or averaged: the formula, what is absent, arms of one size."""

import pytest
import torch

from nnaq.errors import DataError
from nnaq.models.context import ARMS, Carryover, ContextEncoder, ContextSizes
from nnaq.models.contextual_slu import Choices, ContextualSlu, matched_hidden

SIZES = ContextSizes(5, 9, acts=2, utterances=2, embedding=6, width=8, heads=2)
CHOICES = Choices(5, 3, 2)


def drawn(seed=0):
    """Words, acts, what was said, and shares of two turns; the second has no context but the null."""
    random = torch.Generator().manual_seed(seed)
    first, second = (torch.randint(1, 9, (4, 2), generator=random) for _ in range(2))
    said = torch.randint(1, 9, (3, 2, 2), generator=random)
    share = torch.tensor([[0.25, 1.0], [0.25, 0], [0, 0], [0.25, 0], [0.25, 0]])
    return first, second, torch.rand(2, 2, 5, generator=random), said, share


def made(arm):
    torch.manual_seed(1)
    return ContextualSlu(SIZES, CHOICES, arm, 6, 8).eval()


def test_the_formula_of_attentive():
    torch.manual_seed(0)
    layer, h, share = Carryover(7, SIZES, "attentive"), torch.randn(3, 2, 7), drawn()[4]
    keys, values = torch.randn(2, 5, 2, 8).unbind(0)
    found = layer(h, keys, values, share)
    for turn, there in ((0, [0, 1, 3, 4]), (1, [0])):
        query = layer.query(h[:, turn])
        heads = [
            torch.softmax(query[:, part] @ keys[there, turn, part].T / 2, -1) @ values[there, turn, part]
            for part in (slice(0, 4), slice(4, 8))
        ]
        o = layer.out(torch.cat(heads, -1))
        gate = torch.sigmoid(layer.gate(torch.cat([h[:, turn], o], -1)))
        assert torch.allclose(found[:, turn], torch.cat([h[:, turn], gate * o], -1), atol=1e-6)


def test_the_formula_of_averaged():
    torch.manual_seed(0)
    layer, h, share = Carryover(7, SIZES, "averaged"), torch.randn(3, 2, 7), drawn()[4]
    values = torch.randn(5, 2, 8)
    o = layer.out(torch.stack([values[[0, 1, 3, 4], 0].mean(0), values[0, 1]])).expand(3, -1, -1)
    gate = torch.sigmoid(layer.gate(torch.cat([h, o], -1)))
    assert torch.allclose(layer(h, values, values, share), torch.cat([h, gate * o], -1), atol=1e-6)


@pytest.mark.parametrize("arm", ["averaged", "attentive"])
def test_absent_context_changes_nothing(arm):
    module, (first, second, acts, said, share) = made(arm), drawn()
    other = module(first, second, torch.rand_like(acts), said.flip(0), share)
    found = module(first, second, acts, said, share)
    assert torch.allclose(found[:, 1], other[:, 1]) and not torch.allclose(found[:, 0], other[:, 0])


def test_zeros_before_an_utterance_leave_it_as_it_is():
    torch.manual_seed(0)
    encoder, (_, _, acts, said, _) = ContextEncoder(SIZES), drawn()
    late = torch.cat([torch.zeros(4, 2, 2, dtype=torch.int64), said])
    for one, other in zip(encoder(acts, said), encoder(acts, late), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_answers_depend_on_no_later_word():
    module, (first, *rest) = made("attentive"), drawn()
    other = first.clone()
    other[3] = 0
    assert torch.allclose(module(first, *rest)[:3], module(other, *rest)[:3])


@pytest.mark.parametrize("arm", ARMS)
def test_arms_have_the_parameters_of_attentive(arm):
    def count(of, hidden):
        return sum(p.numel() for p in ContextualSlu(SIZES, CHOICES, of, 6, hidden).parameters())

    hidden, budget = matched_hidden(SIZES, CHOICES, arm, 6, 8), count("attentive", 8)
    assert count(arm, hidden) >= budget > count(arm, hidden - 1)


def test_unknown_arms_and_sizes_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="none, averaged, attentive, found 'both'"):
        made("both")
    with pytest.raises(DataError, match="heads divide its width"):
        ContextSizes(5, 9, width=6, heads=4)
    with pytest.raises(DataError, match="embedding and hidden are 1 or more"):
        ContextualSlu(SIZES, CHOICES, hidden=0)
