"""The harness of the speed benchmarks: fair turns, works that are the kernels' own, verdicts, the page."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))  # behind the tests, whose folders share names with its files

from ceilings import Ceilings  # noqa: E402
from kernel_bounds import bounds, limit  # noqa: E402
from kernel_peers import lstm_steps, matmul_integer  # noqa: E402
from kernel_races import Rival, Work, convolution, layer, layer_norm, lstm, softmax, works  # noqa: E402
from kernel_tables import judged, kernel_speed  # noqa: E402
from measuring import contest, figures, race  # noqa: E402
from random_nodes import codes, node_of, reals  # noqa: E402
from recogniser_sizes import FRAMING, LABELS, SECONDS, spoken  # noqa: E402
from recogniser_steps import BITS, times  # noqa: E402

from nnaq.interpret import Interpreter  # noqa: E402
from nnaq.ir.types import Palette  # noqa: E402

MACHINE = Ceilings(
    tier="words_8",
    instruction="vpmaddwd",
    features=("avx2",),
    products=2e11,
    multiply_adds=1.5e11,
    float32=9e10,
    bandwidth={"L2": 9e10, "L3": 5e10, "DRAM": 2e10},
    caches={"L2": 1 << 19, "L3": 1 << 25},
)


@dataclass
class Clockwork:
    """Takes what it is told to."""

    takes: float
    turns: list[int] = field(default_factory=list)

    def seconds(self, calls: int = 1) -> float:
        self.turns.append(calls)
        return self.takes * calls


def test_a_ratio_is_the_peers_time_by_ours():
    ours, peers = Clockwork(0.002), {"slow": Clockwork(0.006), "quick": Clockwork(0.0005)}
    found = contest(ours, peers, 9)
    assert found["slow"]["ratio"] == pytest.approx(3.0)
    assert found["quick"] == pytest.approx({"ratio": 0.25, "seconds": 0.002, "peer_seconds": 0.0005})
    assert ours.turns[2:] == [10] * 9
    assert peers["quick"].turns[2:] == [40] * 9


def test_medians_leave_a_slow_turn_out():
    turns = [(1.0, 2.0), (1.0, 2.0), (9.0, 2.0)]
    assert figures(turns) == {"ratio": 2.0, "seconds": 1.0, "peer_seconds": 2.0}


def test_a_race_warms_both_up():
    work, peer = Clockwork(0.0), Clockwork(0.5)
    race(work.seconds, peer, 3)
    assert len(work.turns) == len(peer.turns) == 4


@pytest.mark.parametrize(
    "node",
    [
        pytest.param(lambda: layer(3, 20, 6, exact=True), id="to int32"),
        pytest.param(lambda: layer(3, 20, 6, exact=False), id="to int8"),
        pytest.param(lambda: layer_norm(3, 16), id="layer norm"),
        pytest.param(lambda: softmax(3, 16), id="softmax"),
        pytest.param(
            lambda: node_of(
                "conv1d",
                (codes(1, 4, 9),),
                (codes(6, 2, 3), reals(6)),
                (codes(1, 6, 7),),
                {"stride": 1, "dilation": 1, "padding": (0, 0), "groups": 2, "activation": "none"},
            ),
            id="conv1d",
        ),
    ],
)
def test_what_is_timed_is_exact(node):
    made = node()
    exact = made.op.reference(made.signature, *made.arrays)
    for mine, wanted in zip(made.call()(), exact, strict=True):
        np.testing.assert_array_equal(mine, wanted)


def test_a_stream_feeds_states_back():
    node = lstm(1, 1, 6, 4)
    x, h, c, *rest = node.arrays
    interpreter = Interpreter(node.stream({1: 1, 2: 2}))
    for _ in range(4):
        y, h, c = node.op.reference(node.signature, x, h, c, *rest)
        np.testing.assert_array_equal(interpreter.step({"x0": x}).outputs["lstm_0"], y)


def test_packed_weights_give_the_same_codes():
    palette = Palette(2, ((-70, -3, 5, 90),))
    node = layer(1, 24, 6, exact=False, table=palette.tables[0])
    np.testing.assert_array_equal(node.packed(palette).call()()[0], node.call()()[0])


def test_every_target_has_a_peer_and_every_name_is_told_once():
    found = works()
    pairs = [(work.name, rival.name) for work in found for rival in work.rivals]
    assert len(pairs) == len(set(pairs))
    assert all(any(rival.target for rival in work.rivals) for work in found)
    assert all(work.operations or work.elements for work in found)


def test_a_convolution_counts_its_products():
    rival = Rival("nobody", None, lambda: None)
    dense = convolution("conv1d", 8, 12, 8, 3, 1, (rival,), False)
    depthwise = convolution("conv1d", 8, 12, 8, 3, 8, (rival,), False)
    assert (dense.operations, dense.resident) == (2 * 10 * 8 * 8 * 3, 8 * 8 * 3)
    assert (depthwise.operations, depthwise.resident) == (2 * 10 * 8 * 3, 8 * 3)


def test_what_bounds_a_work():
    rival = Rival("nobody", 3.0, lambda: None)
    product = Work("product", lambda: None, (rival,), operations=10**9, traffic=10**5, resident=10**5)
    vector = Work("vector", lambda: None, (rival,), operations=2 * 10**6, traffic=10**6, resident=10**6)
    assert limit(product, MACHINE) == (pytest.approx(0.005), "integer products")
    assert limit(vector, MACHINE) == (pytest.approx(2e-5), "reading weights from L3")
    found = bounds(product, 0.01, 0.012, MACHINE)
    assert found["bound"] == "50% of what integer products allows"
    assert (found["gops"], found["possible"]) == (pytest.approx(100), pytest.approx(2.4))
    assert judged({"target": 3.0, "met": False, **found}) == "out of reach of this CPU, at most 2.4"
    assert judged({"target": 2.0, "met": False, **found}) == "missed"
    assert judged({"target": 1.1, "met": True, **found}) == "met"
    assert judged({"target": 1.1, "met": True, "peer_gops": 1.0}) != "met"
    rows = Work("rows", lambda: None, (rival,), elements=1000)
    assert bounds(rows, 1e-6, 1e-6, MACHINE) == {"bound": "1.00 ns per entry"}


def test_the_page_tells_target_and_verdict():
    row = {"work": "GEMM", "peer": "someone", "ratio": 1.5, "seconds": 0.01, "peer_seconds": 0.015}
    row |= {"target": 1.2, "met": True, "gops": 90.0, "peer_gops": 60.0, "bound": "45% of what it is"}
    told = {"load": (0.5, 1.5), "cpu": "a CPU", "versions": {"nnaq": "1"}, "command": "python"}
    told |= {"rounds": 9, "threads": 1, "ceilings": vars(MACHINE), "peer_wrong_sums": 0.25}
    page = kernel_speed({**told, "rows": [row, {**row, "target": None, "met": None}]})
    assert "| GEMM | someone | 1.2 | 1.50 | met | 10 ms | 15 ms | 90 | 60 | 45% of what it is |" in page
    assert "| GEMM | someone |  | 1.50 |  | 10 ms |" in page
    assert "On this CPU 25% of the sums" in page
    assert "200 GOP/s, 150 with an addition to a sum each; float32 90 GFLOP/s" in page


def test_the_sound_of_the_sizes_has_whole_frames_and_ends_with_a_label():
    sound = spoken(FRAMING)
    assert len(sound.labels) * FRAMING.hop == sound.samples == SECONDS * FRAMING.sample_rate
    assert sum(sound.labels) == LABELS * SECONDS and sound.labels[-1] == 1 == max(sound.labels)
    assert sum(sound.steps) == len(sound.labels) + sum(sound.labels)


def test_steps_are_compared_within_their_turn():
    def took(seconds):
        return {"step": (2 * seconds, seconds), "answer": (4 * seconds, 3 * seconds)}

    turns = [{bits: took(slow * bits) for bits in BITS} for slow in (1, 10, 3)]
    found = times(turns, 2)
    assert found["step"]["seconds"] == 12 and found["step"]["processor_seconds"] == 6
    assert found["answer"]["ratio"] == found["step"]["ratio_low"] == found["step"]["ratio_high"] == 4
    assert times(turns, 8)["answer"]["seconds"] == 96


@pytest.mark.parametrize("make", [lambda: matmul_integer(2, 8, 4), lambda: lstm_steps(2, 3, 4, 8)])
def test_the_runtime_runs_in_a_process_of_its_own(make):
    with make() as peer:
        assert peer.seconds(2) > 0
        process = peer.process
    assert process.returncode == 0
