"""Training with a scheme beats rounding after training, on hard weights: a small regression, fixed seeds."""

import numpy as np
import pytest
import torch
from train.scheme_weights import a_weight, normal, parameter

from nnaq.train.schemes import SCHEMES, make_scheme
from nnaq.train.schemes.base import Progress

STEPS = 100


pytestmark = pytest.mark.usefixtures("one_thread")


def problem(seed):
    """Correlated inputs [128, 32] and the weights [6, 32] whose products are to be met."""
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(32, 32)) * 0.7 ** np.arange(32)[:, None]
    inputs = generator.normal(size=(128, 32)) @ mixing
    return torch.tensor(inputs / inputs.std(), dtype=torch.float32), normal(6, 32, seed=seed, size=0.2)


def losses(name, seed, bits=2):
    """The loss of the baseline's hard weights with the best table, and of the hard weights after training."""
    inputs, value = problem(seed)
    wanted = inputs @ torch.from_numpy(value).T
    weight, at = a_weight(value, bits), parameter(value)
    scheme = make_scheme(name, weight)

    def loss(weights):
        return torch.nn.functional.mse_loss(inputs @ weights.T, wanted)

    untrained = loss(torch.from_numpy(make_scheme("ste", weight).hard(at).reals())).item()
    own = [{"params": list(scheme.parameters()), "lr": 0.005}] if list(scheme.parameters()) else []
    optimiser = torch.optim.Adam([{"params": [at], "lr": 0.01}, *own])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for step in range(STEPS):
        scheme.on_step_begin(Progress(step, STEPS))
        optimiser.zero_grad()
        (loss(scheme.soft(at)) + scheme.penalty(at)).backward()
        optimiser.step()
        scheme.on_step_end(at, Progress(step, STEPS))
        schedule.step()
    return untrained, loss(torch.from_numpy(scheme.hard(at).reals())).item()


@pytest.mark.parametrize("name", [name for name in SCHEMES if name != "int8"])
def test_training_at_2_bits_beats_rounding(name):
    untrained, trained = np.sum([losses(name, seed) for seed in range(3)], axis=0)
    assert trained < 0.7 * untrained


def test_compressed_weights_are_what_ships():
    """After the last step of s8bqat the float weights are the codes' reals."""
    weight, at = a_weight(normal(6, 32), 2), parameter(normal(6, 32))
    scheme = make_scheme("s8bqat", weight)
    scheme.on_step_end(at, Progress(STEPS - 1, STEPS))
    assert np.array_equal(at.detach().numpy(), scheme.hard(at).reals())
