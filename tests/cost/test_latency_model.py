"""The model beside Vela's committed reports, and the file of this kind of CPU beside its own timings."""

import hashlib
import json
import math
from importlib import import_module
from pathlib import Path
from statistics import median

import pytest

from nnaq.targets import load_target

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
VELA = ROOT / ".peers" / "vela" / "bin" / "python"


def result(name: str) -> dict:
    return json.loads((BENCHMARKS / "results" / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def model():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield import_module("latency_model")


@pytest.fixture(scope="module")
def rows(model) -> list[dict]:
    """Computed now, against the committed reports."""
    return list(model.compared(result("vela.json")))


def test_the_reports_are_of_these_very_networks(model):
    networks = result("vela.json")["networks"]
    assert len(networks) >= 12
    for name, make in model.NETWORKS.items():
        assert hashlib.sha256(make().file()).hexdigest() == networks[name]["sha256"], name


def test_the_published_rows_are_what_the_model_says(rows):
    assert result("latency_model.json")["rows"] == rows


@pytest.mark.parametrize("kind", ["deep", "shallow", "unrolled"])
def test_cycles_of_the_array_are_within_the_stated_band_of_vela(model, rows, kind):
    found = [abs(r["deviation"]) for r in rows if (r["kind"], r["metric"]) == (kind, "npu_cycles")]
    middle, worst = model.BANDS[kind]
    assert len(found) >= 4
    assert median(found) <= middle
    assert max(found) <= worst


def test_all_cycles_of_deep_networks_are_within_the_same_band(model, rows):
    found = [abs(r["deviation"]) for r in rows if (r["kind"], r["metric"]) == ("deep", "total_cycles")]
    assert median(found) <= model.BANDS["deep"][0]
    assert max(found) <= model.BANDS["deep"][1]


def test_the_promise_for_deep_networks_is_a_tenth_and_a_quarter(model):
    assert model.BANDS["deep"] == (0.10, 0.25)


def test_plans_of_memory_are_no_larger_than_vela_s_greedy_ones_and_hold_what_lives(rows):
    for row in rows:
        if row["metric"] == "sram_bytes":
            assert row["max_live_bytes"] <= row["ours"] <= row["theirs"], row


def test_weights_take_their_entropy_and_the_codec_no_less_and_no_more_than_a_byte_each(rows):
    for row in rows:
        if row["metric"] == "weight_bytes":
            assert row["ours"] <= row["theirs"] <= 1.05 * row["raw_weight_bytes"], row
            assert row["ours"] <= row["raw_weight_bytes"]


@pytest.mark.oracle
@pytest.mark.skipif(not VELA.is_file(), reason="no environment with Vela: see benchmarks/peers/README.md")
def test_vela_reports_what_is_committed(model):
    assert model.ask_vela(str(VELA)) == result("vela.json")


def test_the_file_of_this_cpu_says_what_was_published():
    found = result("latency_model_host.json")
    halves = {half: [r for r in found["rows"] if r["half"] == half] for half in ("fitted", "predicted")}
    assert {r["work"] for r in halves["fitted"]}.isdisjoint(r["work"] for r in halves["predicted"])
    assert f"fitted on {len(halves['fitted'])} timings" in load_target("host").source
    for row in found["rows"]:
        # Times are published with three digits: their ratio is good to a hundredth of itself.
        assert math.isclose(1 + row["deviation"], row["predicted"] / row["measured"], rel_tol=0.01), row


def test_a_machine_without_an_accelerator_runs_all_on_its_host(model):
    graph, host = model.graph_of(model.NETWORKS["residual_64"]()), load_target("host")
    costs = [model.op_cost(graph, node, host) for node in graph.nodes]
    assert {cost.bound for cost in costs} == {"host"}
    fastest = float(host.host.macs_per_cycle)
    assert all(cost.cycles >= cost.macs / fastest for cost in costs)
    assert all(cost.cycles == 0 for cost in costs if cost.op == "reshape")
