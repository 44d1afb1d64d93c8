"""The report: report.json by its schema, and the same numbers for people."""

import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from rich.console import Console
from simulate.lowered import recurrent

from nnaq.codebooks.storage import Storage
from nnaq.errors import ArtifactError
from nnaq.report import (
    SCHEMA,
    Check,
    Crossing,
    Island,
    Latency,
    Layer,
    Memory,
    Report,
    cycles_by_op,
    number,
    read_report,
    worst_layers,
)
from nnaq.simulate import simulate
from nnaq.targets import load_target
from nnaq.tasks.metrics import Figure

LAYERS = (
    Layer("conv.0", "conv1d", 31.5, 0.25, 8, 8, 4000, "compute"),
    Layer("conv.1", "conv1d", 12.5, 19.0, 4, 8, 1000, "dram"),
    Layer("lstm", "lstm", 28.0, 3.5, 8, 16, 15000, "sram"),
    Layer("squeeze", "reshape", None, None, None, 8, 0, None, exact=True),
)
REPORT = Report(
    model="demo <net>",
    target="edge[8]",
    recipe="demo",
    versions={"nnaq": "0.1.0"},
    accuracy={"agreement": Figure(None, 0.9962, "1"), "auc": Figure(0.956, 0.955, "1")},
    layers=LAYERS,
    latency=Latency(20000, 50.0, 0.0016, 18000, 45.0, 0.0014, 3000, 700),
    memory=Memory(210000, 1026, 512, 18000),
    boundary=(Crossing("quantize.x", "quantize", 576),),
    checks={"file_equals_simulator": Check(100000, 0)},
    notes=("value 'a[0]' is 16 bit",),
    raises=({"value": "lstm.h", "bits": 16},),
    saturations={"lstm.c": 3},
    storage=(
        Storage("conv.0.weight", 1000, 8, 1000, 0, 0, 80, 6.25),
        Storage("lstm.w_<input>", 200000, 4, 100000, 16, 0, 2560, 3.5),
    ),
)
BARE = Report("m", "t", "r", {"nnaq": "0"})
STEP = simulate(recurrent(), load_target("edge8"), {"T": 5}, "none")


def errors(report: dict) -> list[str]:
    schema = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(schema)
    return [error.message for error in Draft202012Validator(schema).iter_errors(report)]


@pytest.mark.parametrize("report", [REPORT, BARE])
def test_report_json_follows_its_schema(report):
    assert errors(json.loads(report.to_json())) == []


def test_the_schema_refuses_what_is_no_report():
    good = json.loads(REPORT.to_json())
    for key in (
        "model",
        "accuracy",
        "layers",
        "latency",
        "memory",
        "islands",
        "boundary",
        "checks",
        "versions",
    ):
        assert errors({k: v for k, v in good.items() if k != key}) == [f"'{key}' is a required property"]
    assert errors({**good, "more": 1}) == []
    assert errors({**good, "accuracy": {"auc": {"float": "high", "integer": 1, "unit": "1"}}})
    assert errors({**good, "accuracy": {"auc": {"integer": 1, "unit": "1"}}})
    assert errors({**good, "layers": [{**good["layers"][0], "exact": True}]})
    assert errors({**good, "versions": {}})
    assert errors({**good, "storage": [{**good["storage"][0], "bits": "8"}]})
    assert errors({**good, "storage": [{"name": "w"}]})


def test_the_keys_others_lean_on():
    data = json.loads(REPORT.to_json())
    assert data["accuracy"]["auc"] == {"float": 0.956, "integer": 0.955, "unit": "1"}
    assert data["accuracy"]["agreement"]["float"] is None
    assert data["layers"][1] == {
        "name": "conv.1", "op": "conv1d", "sqnr_db": 12.5, "added_db": 19.0, "weight_bits": 4,
        "activation_bits": 8, "cycles": 1000, "bound": "dram", "exact": False,
    }  # fmt: skip
    assert data["latency"] == {
        "cycles_per_step": 20000,
        "microseconds_per_step": 50.0,
        "real_time_factor": 0.0016,
        "event_cycles_per_step": 18000,
        "event_microseconds_per_step": 45.0,
        "event_real_time_factor": 0.0014,
        "models_apart_at_most_cycles": 3000,
        "setup_cycles": 700,
    }
    assert data["memory"] == {
        "weight_bytes": 210000, "table_bytes": 1026, "state_bytes": 512, "sram_peak_bytes": 18000
    }  # fmt: skip
    assert data["islands"] == []
    assert data["boundary"] == [{"name": "quantize.x", "op": "quantize", "cycles": 576}]
    assert data["storage"][1] == {
        "name": "lstm.w_<input>", "values": 200000, "bits": 4, "index_bytes": 100000, "table_bytes": 16,
        "map_bytes": 0, "scale_bytes": 2560, "entropy_bits": 3.5, "ratio_to_int8": 102576 / 202560,
    }  # fmt: skip
    assert data["checks"] == {"file_equals_simulator": {"values": 100000, "mismatches": 0}}


def test_numpy_numbers_are_written_as_numbers_and_nan_is_a_bug():
    report = replace(BARE, accuracy={"a": Figure(np.float32(0.5), np.int64(3), "1")})
    assert json.loads(report.to_json())["accuracy"]["a"] == {"float": 0.5, "integer": 3, "unit": "1"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(BARE, accuracy={"a": Figure(float("nan"), 1.0, "1")}).to_json()


def test_a_written_report_reads_back(tmp_path):
    REPORT.write(tmp_path, STEP)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["layers.csv", "report.html", "report.json"]
    read = read_report(tmp_path / "report.json")
    assert read.to_dict() == REPORT.to_dict()
    assert read.layers == LAYERS
    assert read.storage == REPORT.storage
    more = {**REPORT.to_dict(), "later": 1, "latency": {**vars(REPORT.latency), "later": 2}}
    (tmp_path / "more.json").write_text(json.dumps(more))
    assert read_report(tmp_path / "more.json") == read
    before = {key: value for key, value in REPORT.to_dict().items() if key != "storage"}
    before["latency"] = {key: before["latency"][key] for key in list(before["latency"])[:3]}
    (tmp_path / "before.json").write_text(json.dumps(before))
    assert read_report(tmp_path / "before.json") == replace(
        read, storage=(), latency=Latency(20000, 50.0, 0.0016)
    )


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"accuracy": 3}'])
def test_other_files_are_no_reports(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"r\.json is no report of nnaq"):
        read_report(tmp_path / "r.json")
    with pytest.raises(ArtifactError, match="cannot be read: No such file"):
        read_report(tmp_path / "gone.json")


def test_layers_csv_has_a_row_per_layer_and_blanks_for_none():
    rows = list(csv.DictReader(io.StringIO(REPORT.to_csv())))
    assert [row["name"] for row in rows] == ["conv.0", "conv.1", "lstm", "squeeze"]
    assert rows[1] == {
        "name": "conv.1", "op": "conv1d", "sqnr_db": "12.5", "added_db": "19.0", "weight_bits": "4",
        "activation_bits": "8", "cycles": "1000", "bound": "dram", "exact": "False",
    }  # fmt: skip
    assert rows[3]["sqnr_db"] == rows[3]["bound"] == ""


def test_worst_and_dearest_come_first():
    assert [layer.name for layer in worst_layers(REPORT)] == ["conv.1", "lstm", "conv.0"]
    assert [layer.name for layer in worst_layers(REPORT, 1)] == ["conv.1"]
    assert list(cycles_by_op(LAYERS).items()) == [("lstm", 15000), ("conv1d", 5000), ("reshape", 0)]


def shown(report: Report) -> str:
    console = Console(file=io.StringIO(), width=100, color_system=None)
    report.show(console)
    return console.file.getvalue()


def test_the_terminal_shows_what_matters():
    text = shown(REPORT)
    for line in [
        r"demo <net> on edge\[8\], recipe demo",
        r"agreement +– +0.9962",
        r"auc +0.956 +0.955",
        r"Worst layers *\n.*\nconv.1 +conv1d +12.5 +19 +8\nlstm",
        r"lstm +15 000 +75.0%",
        r"sram peak bytes +18 000",
        r"Host islands: none",
        r"file equals simulator +100 000 +0",
        r"lstm.h +16",
        r"4 bits +200 000 +100 000 +16 +0 +2 560 +3.5 +50.6%",
        r"8 bits +1 000 +1 000 +0 +0 +80 +6.25 +100.0%",
        r"all +201 000 +101 000 +16 +0 +2 640 +3.514 +50.9%",
        r"note: value 'a\[0\]' is 16 bit",
    ]:
        assert re.search(line, text), line


def test_islands_are_shown_with_their_reason():
    text = shown(replace(REPORT, islands=(Island("fft", "dft", "edge8 has no dft", 9000),)))
    assert re.search(r"Host islands *\n.*\nfft +dft +edge8 has no dft +9 000", text)


def test_a_bare_report_shows_and_renders():
    assert "Worst layers: none" in shown(BARE)
    assert "<svg" not in BARE.to_html()


class Page(HTMLParser):
    """Collects the text, and everything that would load another file."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.loaded: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [tag] if tag in ("script", "link", "img", "iframe", "object") else []
        self.loaded += [
            v for k, v in attrs if v and k in ("href", "src", "xlink:href") and not v.startswith("#")
        ]

    def handle_data(self, data: str) -> None:
        self.text.append(data.strip())


def test_the_page_stands_alone_and_escapes_names():
    page = REPORT.to_html(STEP)
    parsed = Page(page)
    assert parsed.loaded == []
    assert set(re.findall(r"https?://[^\s\"'<]+", page)) <= {
        "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
    }  # fmt: skip
    assert "@import" not in page
    assert "url(http" not in page
    assert "demo <net>" in " ".join(parsed.text)
    assert "<net>" not in page
    assert page.count("<svg") == 6
    for text in (
        "0.9962",
        "conv.1",
        "100 000",
        "0 of 100 000 differ",
        "One step, engine by engine",
        "Where the cycles go",
        "Roofline",
        "SRAM over time",
        "exact",
        "lstm.w_&lt;input&gt;",
    ):
        assert text in page, text


def test_the_page_is_the_same_every_time():
    assert REPORT.to_html(STEP) == REPORT.to_html(STEP)


def test_numbers_for_people():
    assert [number(v) for v in (None, 0, 1234567, np.float32(0.123456), "dram", False)] == [
        "–", "0", "1 234 567", "0.1235", "dram", "no"
    ]  # fmt: skip
