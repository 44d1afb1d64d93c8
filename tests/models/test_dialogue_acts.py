"""Models of dialogue acts: arms of one size, gates, utterances side by side, and integers as they are."""

import numpy as np
import pytest
import torch

import nnaq
from nnaq.errors import DataError
from nnaq.interpret import run
from nnaq.models.dialogue_acts import ARMS, DialogueActs, matched_hidden

SMALL = {"front": 6, "local": 4, "filters": 2, "widths": (1, 3), "summary": 5}
OPTIONS = nnaq.ImportOptions(time={"x": 0, "p": 0}, shapes={"x": ("T", "N", 9), "p": ("T", "N", 6)})


def made(arm, hidden=8):
    torch.manual_seed(1)
    return DialogueActs(9, 6, 3, arm, hidden=hidden, **SMALL).eval()


def drawn(steps, batch, seed=0):
    random = np.random.default_rng(seed)
    x, p = (torch.from_numpy(random.standard_normal((steps, batch, n)).astype(np.float32)) for n in (9, 6))
    x[..., -1] = 1
    return x, p


@pytest.mark.parametrize("arm", ARMS)
def test_what_is_not_there_yet_changes_nothing(arm):
    module, (x, p) = made(arm), drawn(11, 2)
    late = [torch.cat([torch.zeros(5, *one.shape[1:]), one]) for one in (x, p)]
    assert torch.allclose(module(*late), module(x, p), atol=1e-6)


@pytest.mark.parametrize("arm", ARMS)
def test_only_arms_with_prosody_hear_it(arm):
    module, (x, p) = made(arm), drawn(11, 2)
    assert torch.equal(module(x, p), module(x, 2 * p)) == (arm == "none")


@pytest.mark.parametrize("arm", ARMS)
def test_gates_are_those_of_the_arm(arm):
    gates = made(arm).gated(*drawn(11, 2))[1]
    shapes = {"local": (11, 2, 4), "global": (2, 5)}
    wanted = {"local": ["local"], "global": ["global"], "both": ["local", "global"]}.get(arm, [])
    assert {name: tuple(gate.shape) for name, gate in gates.items()} == {
        name: shapes[name] for name in wanted
    }
    assert all(((gate > 0) & (gate < 1)).all() for gate in gates.values())


def test_the_formula_of_both():
    module, (x, p) = made("both"), drawn(7, 1)
    heard = torch.relu(x @ module.front.weight.T)
    gate = torch.sigmoid(torch.cat([heard, p], -1) @ module.local_gate.weight.T)
    local = gate * torch.tanh(p @ module.local.weight.T)
    last = module.lstm(torch.cat([heard, local, torch.ones(7, 1, 1)], -1))[0][-1]
    padded = torch.cat([torch.zeros(2, 7), torch.cat([p, torch.ones(7, 1, 1)], -1)[:, 0]])
    wide = torch.stack([(module.shapes[1].weight * padded[t : t + 3].T).sum((1, 2)) for t in range(7)])
    narrow = padded[2:] @ module.shapes[0].weight[..., 0].T
    u = module.summary(torch.relu(torch.cat([narrow, wide], -1)).amax(0))[None]
    r = torch.sigmoid(module.global_gate(torch.cat([last, u], -1)))
    assert torch.allclose(module(x, p), module.head(torch.cat([last, r * u], -1)), atol=1e-6)


@pytest.mark.parametrize("arm", ARMS)
def test_arms_have_the_parameters_of_both(arm):
    def count(of, hidden):
        return sum(p.numel() for p in DialogueActs(9, 6, 3, of, hidden=hidden, **SMALL).parameters())

    hidden, budget = matched_hidden(9, 6, 3, arm, 8, **SMALL), count("both", 8)
    assert count(arm, hidden) >= budget > count(arm, hidden - 1)


@pytest.mark.parametrize("arm", ["none", "both"])
def test_integers_of_utterances_stay_close(arm):
    """All operators cross, none is left to the host, and two utterances at once are each alone."""
    module = made(arm)
    recordings = [
        dict(zip("xp", (one.numpy() for one in drawn(9, 1, seed)), strict=True)) for seed in range(8)
    ]
    lowering = nnaq.lower(module, drawn(5, 2), recordings, target="edge8", options=OPTIONS)
    graph = lowering.crossing.integer
    assert not lowering.crossing.islands
    (name,) = (port.name for port in graph.outputs)
    found = np.concatenate([run(graph, one).outputs[name] for one in recordings])
    both = {key: np.concatenate([recordings[0][key], recordings[1][key]], axis=1) for key in "xp"}
    assert np.array_equal(run(graph, both).outputs[name], found[:2])
    with torch.no_grad():
        wanted = np.concatenate([module(*map(torch.from_numpy, one.values())).numpy() for one in recordings])
    assert np.abs(found - wanted).max() < 0.1 * np.abs(wanted).max()


def test_unknown_arms_and_empty_sizes_are_refused():
    with pytest.raises(DataError, match="none, concat, local, global, both, found 'neither'"):
        made("neither")
    with pytest.raises(DataError, match="1 or more"):
        made("both", hidden=0)
