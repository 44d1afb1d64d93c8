"""`nnaq simulate` and `nnaq compare`: figures of the machine, and what they refuse."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from command_line import lower_words, one_line, refused, target_text
from simulate.traces import must_be_valid
from voice_models import FRAME, RATE, write_sound

from nnaq.interpret import run
from nnaq.simulate import executed
from nnaq.targets import load_target


def plain(said) -> dict:
    assert (said.code, said.err) == (0, "")
    return json.loads(said.out)


def test_a_folder_is_simulated_as_its_report_says(nnaq, lowered):
    found, report = (
        plain(nnaq("simulate", lowered, "--json")),
        json.loads((lowered / "report.json").read_text()),
    )
    assert found["target"] == report["target"] == "edge8"
    ours, theirs = found["latency"], report["latency"]
    for key in ("cycles_per_step", "microseconds_per_step", "event_cycles_per_step", "setup_cycles"):
        assert ours[key] == theirs[key]
    assert {layer["name"]: layer["cycles"] for layer in found["layers"]} == {
        layer["name"]: layer["cycles"] for layer in report["layers"]
    }
    assert plain(nnaq("simulate", lowered / "model.onnx", "--json")) == found


def test_the_tables_say_what_json_says(nnaq, lowered):
    found, text = plain(nnaq("simulate", lowered, "--json")), nnaq("simulate", lowered).out
    latency = found["latency"]
    for line in (
        f"step: {latency['cycles_per_step']:,} cycles, {latency['microseconds_per_step']:g} us on edge8",
        f"events: {latency['event_cycles_per_step']:,} cycles",
        "most expensive",
        "host-bound: host",
        "split: compute",
        "SRAM: ",
        "energy: ",
    ):
        assert line in text, line


def test_more_frames_at_a_time_take_longer_but_less_each(nnaq, lowered):
    one, ten = (plain(nnaq("simulate", lowered, "--chunk", n, "--json"))["latency"] for n in (1, 10))
    for key in ("cycles_per_step", "event_cycles_per_step"):
        assert one[key] < ten[key] < 10 * one[key]


def test_steps_follow_each_other_in_the_trace(nnaq, lowered, tmp_path):
    trace = tmp_path / "trace.json"
    found = plain(nnaq("simulate", lowered, "--steps", 3, "--trace", trace, "--json"))
    each, setup = found["latency"]["event_cycles_per_step"], found["latency"]["setup_cycles"]
    assert found["steps"]["cycles"] == setup + 3 * each
    records = json.loads(trace.read_text())
    must_be_valid(records)
    end = max(r["ts"] + r["dur"] for r in records if r["ph"] == "X")
    assert end == pytest.approx(load_target("edge8").microseconds(3 * each))
    assert "3 steps:" in nnaq("simulate", lowered, "--steps", 3).out


def test_a_recording_is_heard_in_real_time(nnaq, lowered, tmp_path):
    sound, trace = write_sound(tmp_path / "s.wav", 5, frames=50), tmp_path / "trace.json"
    found = plain(nnaq("simulate", lowered, "--stream", sound, "--trace", trace, "--json"))
    stream, latency = found["stream"], found["latency"]
    assert (stream["frames"], stream["seconds"], stream["chunk"]) == (50, 50 * FRAME / RATE, 1)
    event = latency["event_microseconds_per_step"]
    assert stream["latency_microseconds"] == {"p50": event, "p90": event, "p99": event}
    assert stream["perceived_latency_microseconds"] == event
    assert stream["real_time_factor"] == pytest.approx(event / (FRAME / RATE * 1e6))
    records = json.loads(trace.read_text())
    must_be_valid(records)
    assert {r["args"]["step"] for r in records if r["ph"] == "X"} == set(range(50))
    said = nnaq("simulate", lowered, "--stream", sound, "--chunk", 7)
    assert said.code == 0 and "50 frames, 7 at a time" in said.out


@pytest.fixture
def frames(tmp_path):
    np.savez(tmp_path / "frames.npz", x=np.random.default_rng(0).normal(0, 0.2, (23, FRAME)))
    return tmp_path / "frames.npz"


@pytest.mark.parametrize("chunk", [1, 5])
def test_an_executed_plan_gives_the_integers_of_the_interpreter(nnaq, lowered, frames, chunk):
    words = ("simulate", lowered, "--execute", "plan", "--inputs", frames, "--chunk", chunk)
    assert plain(nnaq(*words, "--json"))["executed"] == {"values": 23 + 8 + 8, "mismatches": 0}
    assert "executed the plan: 39 values, 0 differ" in nnaq(*words).out


def test_an_executed_plan_that_differs_is_a_bug(nnaq, lowered, frames, monkeypatch):
    def wrong(graph, target, inputs, chunk):
        result = run(graph, inputs, chunk=chunk)
        return replace(result, states={**result.states, "h": result.states["h"][..., :3]})

    monkeypatch.setattr(executed, "execute_plan", wrong)
    said = nnaq("simulate", lowered, "--execute", "plan", "--inputs", frames)
    assert said.code == 1 and "39 values, 8 differ" in said.out


def test_execute_refuses_what_it_cannot_run(nnaq, lowered, frames, tmp_path):
    refused(nnaq("simulate", lowered, "--execute", "plan"), "go together")
    refused(nnaq("simulate", lowered, "--inputs", frames), "go together")
    refused(nnaq("simulate", lowered, "--execute", "all", "--inputs", frames), "takes plan, found 'all'")
    np.savez(tmp_path / "other.npz", y=np.zeros((3, FRAME)))
    refused(nnaq("simulate", lowered, "--execute", "plan", "--inputs", tmp_path / "other.npz"), "takes x")


def test_a_machine_too_slow_says_so(nnaq, lowered, tmp_path):
    text = target_text().replace("clock_hz = 500_000_000", "clock_hz = 100_000")
    (tmp_path / "own.toml").write_text(text)
    sound = write_sound(tmp_path / "s.wav", 5, frames=50)
    said = nnaq("simulate", lowered, "--target", tmp_path / "own.toml", "--stream", sound)
    assert said.code == 0 and "it falls behind" in said.out


def test_another_target_is_asked_where_it_computes_the_same_integers(nnaq, lowered, tmp_path):
    assert plain(nnaq("simulate", lowered, "--target", "edge8-sub8", "--json"))["target"] == "edge8-sub8"
    for line, told in (
        ('rounding = "double"', "has rounding single, the target double"),
        ('rounding = "single"\naccumulator_bits = 20', "has accumulator bits 32, the target 20"),
        ('rounding = "single"\ninternal_bits = 8', "has internal bits 16, the target 8"),
        ('rounding = "single"\nlut_entries = 65536', "has table entries 513, the target 65536"),
    ):
        (tmp_path / "own.toml").write_text(target_text().replace('\nrounding = "single"', f"\n{line}"))
        said = nnaq("simulate", lowered, "--target", tmp_path / "own.toml")
        refused(
            said, "holds integers of another contract than target 'own'", told, "lower the model for 'own'"
        )
        one_line(said)
    (tmp_path / "own.toml").write_text(target_text().replace('"half_even"', '"half_away"'))
    refused(nnaq("simulate", lowered, "--target", tmp_path / "own.toml"), "has input rounding half_even")


def test_a_target_of_one_s_own_is_asked_for(nnaq, lowered, tmp_path):
    folder = shutil.copytree(lowered, tmp_path / "out")
    report = json.loads((folder / "report.json").read_text())
    (folder / "report.json").write_text(json.dumps({**report, "target": "own"}))
    said = nnaq("simulate", folder)
    refused(said, "was lowered for target 'own', which does not ship with nnaq; name its file with --target")
    one_line(said)
    (tmp_path / "own.toml").write_text(target_text())
    assert nnaq("simulate", folder, "--target", tmp_path / "own.toml").code == 0


def test_simulate_refuses_what_it_cannot_read(nnaq, lowered, place, tmp_path):
    alone = shutil.copy(lowered / "model.onnx", tmp_path / "alone.onnx")
    sound = write_sound(tmp_path / "s.wav", 5)
    refused(nnaq("simulate", alone, "--stream", sound), "nothing says how", "--recipe")
    assert nnaq("simulate", alone, "--stream", sound, "--recipe", place / "recipe.toml").code == 0
    fast = write_sound(tmp_path / "fast.wav", 5, rate=16000)
    refused(nnaq("simulate", lowered, "--stream", fast), "the model hears 8000 Hz mono")
    refused(nnaq("simulate", lowered, "--stream", tmp_path / "no.wav"), "there is no such file")
    refused(nnaq("simulate", lowered, "--stream", sound, "--steps", 2), "leave --steps out")
    refused(nnaq("simulate", lowered, "--target", "edge9"), "no target 'edge9'")
    refused(nnaq("simulate", tmp_path / "gone"), "cannot be read")
    refused(nnaq("simulate", place / "model.onnx"), "is not a lowered nnaq model")


def test_a_model_beside_itself_differs_in_nothing(nnaq, lowered):
    found = plain(nnaq("compare", lowered, lowered / "model.onnx", "--json"))
    assert all(total["delta"] in (0, None) for total in found["totals"].values())
    assert all(set(row["delta"].values()) <= {0, None} for row in found["layers"])


def test_one_model_on_two_targets(nnaq, lowered, tmp_path):
    (tmp_path / "own.toml").write_text(target_text().replace("rows = 32", "rows = 4"))
    words = ("compare", lowered, "--target", "edge8", "--target", tmp_path / "own.toml")
    found = plain(nnaq(*words, "--json"))
    sides = [
        plain(nnaq("simulate", lowered, "--target", t, "--json")) for t in ("edge8", tmp_path / "own.toml")
    ]
    for key in ("cycles_per_step", "event_cycles_per_step"):
        ours = found["totals"][key]
        assert (ours["left"], ours["right"]) == tuple(side["latency"][key] for side in sides)
        assert ours["delta"] == ours["right"] - ours["left"]
    assert found["totals"]["cycles_per_step"]["delta"] == sum(r["delta"]["cycles"] for r in found["layers"])
    said = nnaq(*words, "--top", 2)
    assert said.code == 0 and "and " in said.out and "cycles per step" in said.out


def test_two_models_on_their_own_targets(nnaq, lowered, place):
    words = lower_words(place)
    assert nnaq("lower", *words[:-1], "16", "--json").code == 0
    found = plain(nnaq("compare", lowered, place / "out", "--json"))
    lstm = next(row for row in found["layers"] if row["op"] == "lstm")
    assert lstm["delta"]["cycles"] >= 0 and lstm["delta"]["sqnr_db"] > 0
    assert lstm["left"]["bound"] and lstm["right"]["bound"]
    assert found["totals"]["sram_bytes"]["delta"] > 0


def test_nodes_of_one_side_only_are_told(nnaq, lowered, place):
    other = place / "model.onnx"
    other.write_bytes(other.read_bytes().replace(b"logit", b"digit"))
    assert nnaq("lower", *lower_words(place), "--json").code == 0
    found = plain(nnaq("compare", lowered, place / "out", "--json"))
    alone = {row["name"] for row in found["layers"] if row["left"] is None or row["right"] is None}
    assert any("logit" in name for name in alone) and any("digit" in name for name in alone)
    assert found["totals"]["cycles_per_step"]["delta"] == 0
    assert "not there" in nnaq("compare", lowered, place / "out", "--top", 50).out


def test_compare_wants_two_sides(nnaq, lowered):
    refused(nnaq("compare", lowered), "give --target twice, or a second model")
    refused(nnaq("compare", lowered, "--target", "edge8"), "give --target twice")
    refused(nnaq("compare", lowered, lowered, *["--target", "edge8"] * 3), "found 3 times --target")
