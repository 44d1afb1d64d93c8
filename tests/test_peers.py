"""The committed results about peers: every row can be repeated and says what it leaves in float."""

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from nnaq.tasks.verification import equal_error_rate

PEERS = Path(__file__).resolve().parents[1] / "benchmarks" / "peers"
RESULTS = PEERS.parent / "results"
PINS = {line for file in PEERS.glob("requirements-*.txt") for line in file.read_text().split()}


def rows(name: str) -> list[dict]:
    return json.loads((RESULTS / name).read_text())["rows"]


@pytest.mark.parametrize("name", ["peers.json", "peers_codebooks.json"])
def test_rows_have_figures_or_a_reason(name: str) -> None:
    for row in rows(name):
        assert bool(row.get("figures")) != bool(row["failure"]), row


@pytest.mark.parametrize("name", ["peers.json", "peers_codebooks.json"])
def test_versions_are_those_of_the_environments(name: str) -> None:
    for row in rows(name):
        for package, version in row["versions"].items():
            assert package == "nnaq" or f"{package}=={version.split('+')[0]}" in PINS, row


def test_every_finished_pipeline_says_what_it_leaves_in_float() -> None:
    assert all(row["left_in_float"] for row in rows("peers.json") if row["failure"] is None)


def test_nnaq_stands_beside_the_peers() -> None:
    for name in ("peers.json", "peers_codebooks.json"):
        assert {"nnaq"} < {row["peer"] for row in rows(name)}


def test_where_a_peer_is_ahead_a_reason_is_told(monkeypatch) -> None:
    monkeypatch.syspath_prepend(PEERS.parent)
    tables = import_module("peer_tables")
    done = [row for row in rows("peers.json") if row["failure"] is None]
    ahead = [row for row in done if tables.ahead_of(row, done)]
    assert ahead and all(tables.reason(row) for row in ahead)


def test_nnaq_leaves_nothing_in_float() -> None:
    mine = [row["left_in_float"] for row in rows("peers.json") if row["peer"] == "nnaq"]
    assert mine and all(left.split(" (")[0] == "nothing" for left in mine)


def test_a_row_is_judged_by_the_same_bits_and_the_other_rows_by_its_side(monkeypatch) -> None:
    monkeypatch.syspath_prepend(PEERS.parent)
    tables = import_module("peer_tables")
    plain, best, raised = (
        made("nnaq", s, a) for s, a in (("W4A8", 0.5), ("W4A8 x", 0.8), ("W4A8 auto", 0.9))
    )
    other = made("nnaq", "W8A8", 0.99)
    for agreement, told in ((0.5, ""), (0.6, "plain"), (0.8, "plain"), (0.85, "all")):
        peer = made("peer", "W4A8", agreement)
        assert tables.ahead_of(peer, [plain, best, raised, other, peer]) == told


def made(peer: str, scheme: str, agreement: float) -> dict:
    figures = {"agreement:clean": agreement, "agreement:noisy": agreement}
    return {"peer": peer, "model": "silero", "form": "step", "scheme": scheme, "figures": figures}


def test_rates_of_resampled_speakers(monkeypatch) -> None:
    monkeypatch.syspath_prepend(PEERS.parent)
    intervals = import_module("sub8_intervals")
    chance = np.random.default_rng(0)
    speakers = [f"s{number}" for number in range(8) for _ in range(5)]
    centres = {name: chance.normal(size=6) for name in speakers}
    embeddings = np.stack([centres[name] + chance.normal(size=6) for name in speakers])
    trials = intervals.Trials.of(embeddings, speakers).ordered()
    once = trials.weights(np.ones(8, int))
    assert intervals.weighted_rate(trials, once) == equal_error_rate(trials.scores, trials.same)
    weights = trials.weights(np.array([3, 1, 0, 2, 1, 0, 1, 0]))
    repeated = [np.repeat(values, weights) for values in (trials.scores, trials.same)]
    assert intervals.weighted_rate(trials, weights) == pytest.approx(equal_error_rate(*repeated), abs=1e-12)
    published = [0.275, 0.24769230769230768, 0.19666666666666666, 0.22363636363636363]  # draws must stay so
    assert intervals.resampled_rates(trials, 4) == pytest.approx(published, abs=1e-9)


def test_vela_stores_what_is_counted() -> None:
    for row in rows("storage.json"):
        assert row["index_bytes"] == -(-row["values"] * row["bits"] // 8)
        assert row["vela_bytes_palette_codes"] > 0 and row["int8_bytes"] == row["values"]
