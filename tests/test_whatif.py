"""`nnaq numerics --sweep`: one contract at a time, judged against the float model."""

import csv
import json

import pytest
from command_line import files, one_line, refused


def words(place):
    return [
        place / "model.onnx", "--recipe", place / "recipe.toml", "--calibrate", place / "data",
        "--evaluate", place / "held", "--activations", "8",
    ]  # fmt: skip


@pytest.fixture(scope="session")
def swept(_scene, nnaq_once) -> list[dict]:
    """The rows of every sweep on the small detector."""
    return json.loads(nnaq_once("numerics", *words(_scene), "--json"))


def of(rows, sweep):
    return {row["choice"]: row for row in rows if row["sweep"] == sweep}


def test_every_choice_of_the_contract_has_a_row(swept):
    assert list(of(swept, "rounding")) == ["single", "double", "half_up_shift", "floor", "truncate"]
    assert len(of(swept, "accumulator")) == 13
    assert len(of(swept, "lut")) == 2
    assert list(of(swept, "internals")) == ["16 bits", "12 bits", "8 bits", "7 bits", "6 bits"]
    assert all(row["refused"] == "" for row in swept)


def test_the_targets_own_contract_changes_nothing(swept):
    own = [row for row in swept if row["is_own"]]
    assert [row["choice"] for row in own] == ["single", "32 bits", "513, interpolated", "16 bits"]
    assert [row["changed"] for row in own] == [0, 0, 0, 0]
    assert len({json.dumps(row["sqnr_db"]) for row in own}) == 1


def test_a_floor_loses_what_a_rounding_keeps(swept):
    rows = of(swept, "rounding")
    assert rows["floor"]["sqnr_db"]["score"] < rows["single"]["sqnr_db"]["score"] - 3
    assert rows["floor"]["changed"] > 0.2


def test_accumulators_cost_nothing_until_they_overflow(swept):
    rows = of(swept, "accumulator")
    for overflow in ("saturate", "wrap"):
        assert rows[f"28 bits, {overflow}"]["changed"] == 0  # the detector's sums need 17 bits
        assert rows[f"16 bits, {overflow}"]["changed"] > 0
    assert rows["16 bits, saturate"]["sqnr_db"]["score"] > rows["16 bits, wrap"]["sqnr_db"]["score"]


def test_the_table_says_the_same_as_the_csv(nnaq, place, tmp_path):
    said = nnaq("numerics", *words(place), "--sweep", "rounding", "--csv", tmp_path / "rows.csv")
    assert said.code == 0
    rows = list(csv.DictReader((tmp_path / "rows.csv").read_text().splitlines()))
    assert [row["choice"] for row in rows] == ["single", "double", "half_up_shift", "floor", "truncate"]
    for row in rows:
        assert row["SQNR dB score"] in said.out


def test_an_unknown_sweep_is_refused_before_anything_runs(nnaq, place, tmp_path):
    before = files(tmp_path)
    said = nnaq("numerics", *words(place), "--sweep", "rounding,widths", "--csv", tmp_path / "rows.csv")
    refused(said, "no sweep 'widths'", "rounding, accumulator, lut, internals")
    one_line(said)
    assert files(tmp_path) == before
