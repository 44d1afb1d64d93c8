"""A front as table, CSV and drawing: every number stands where it belongs."""

import csv
import io
import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from nnaq.codebooks.choice import PaletteChoice
from nnaq.search.budget import parse_bound
from nnaq.search.front import (
    Costs,
    Front,
    Measured,
    Point,
    accuracy,
    decibels,
    draw,
    predicted_line,
    ratio,
    show_front,
    to_csv,
    to_dict,
)
from nnaq.tasks.metrics import Figure

SVG = "{http://www.w3.org/2000/svg}"


def figures(db: float | None, agreement: float) -> dict[str, Figure]:
    return {
        "sqnr:y": Figure(None, db, "dB"),
        "mean_absolute_error:y": Figure(None, 0.0 if db is None else 0.1, "1"),
        "agreement": Figure(None, agreement, "1"),
    }


def point(bits: int | None, size: int, db: float, measured: float | None = None, held: bool = False) -> Point:
    costs = Costs(size, size // 4, 2.0 * size)
    return Point(
        {} if bits is None else {"w": PaletteChoice(bits), "v": PaletteChoice(bits, "per_channel")},
        ratio(db),
        costs,
        db,
        None if measured is None else Measured(costs, figures(measured, 0.9 + measured / 1000)),
        figures(measured, 0.88) if held else {},
    )


CHOSEN = point(3, 5000, 25.0, 24.0, held=True)
FRONT = Front(
    "bytes",
    ("sqnr", "agreement"),
    tuple(map(parse_bound, ("sqnr>=24", "bytes<=6000"))),
    (point(2, 3000, 12.0, 11.0), point(None, 9000, 40.0, 40.0, held=True), point(5, 7000, 33.0), CHOSEN),
    CHOSEN,
    0.002,
)


def said(front: Front) -> list[list[str]]:
    text = io.StringIO()
    show_front(front, Console(file=text, width=200, highlight=False))
    return [line.split() for line in text.getvalue().splitlines()]


def test_the_table_shows_what_was_measured_dearest_first():
    head, *lines = said(FRONT)
    assert head[:4] == ["bytes", "us", "nJ", "palettes"]
    assert lines == [
        ["8", "bits", "9,000", "4.5", "18.0", "0", "40.00", "40.00", "0.9400", "40.00", "0.8800"],
        ["chosen", "5,000", "2.5", "10.0", "2", "25.00", "24.00", "0.9240", "24.00", "0.8800"],
        ["measured", "3,000", "1.5", "6.0", "2", "12.00", "11.00", "0.9110", "-", "-"],
    ]


def test_the_csv_has_every_point():
    rows = list(csv.DictReader(to_csv(FRONT).splitlines()))
    assert [row["kind"] for row in rows] == ["8 bits", "predicted", "chosen", "measured"]
    assert [row["predicted_bytes"] for row in rows] == ["9000", "7000", "5000", "3000"]
    assert [row["measured_bytes"] for row in rows] == ["9000", "", "5000", "3000"]
    assert [row["sqnr:y"] for row in rows] == ["40.0", "", "24.0", "11.0"]
    assert [row["held_out:agreement"] for row in rows] == ["0.88", "", "0.88", ""]


def test_an_exact_model_has_no_number_and_no_energy_has_no_column():
    costs = Costs(10, 20)
    exact = Point({}, 0.0, costs, math.inf, Measured(costs, figures(None, 1.0)))
    front = Front("bytes", ("sqnr",), (), (exact,), exact, 1.0)
    assert said(front)[1] == ["chosen", "10", "20.0", "0", "exact", "exact"]
    (row,) = csv.DictReader(to_csv(front).splitlines())
    assert (row["predicted_sqnr_db"], row["sqnr:y"], row["predicted_energy"]) == ("", "", "")
    json.dumps(to_dict(exact), allow_nan=False)
    assert exact.measured.noise == 0


def test_noise_and_decibels_are_two_words_for_one_thing():
    assert decibels(ratio(17.0)) == pytest.approx(17.0, rel=1e-12)
    assert decibels(0.0) == math.inf
    silent = Measured(Costs(1, 1), {**figures(None, 1.0), "mean_absolute_error:y": Figure(None, 0.5, "1")})
    assert silent.sqnr_db == -math.inf


def test_a_point_is_plain_data():
    found = to_dict(CHOSEN)
    assert found["palettes"] == {"w": {"bits": 3}, "v": {"bits": 3, "granularity": "per_channel"}}
    assert found["predicted"]["sqnr_db"] == 25.0
    assert found["measured"]["figures"]["agreement"] == {"float": None, "integer": 0.924, "unit": "1"}
    assert found["held_out"]["agreement"]["integer"] == 0.88
    assert to_dict(FRONT.points[2])["measured"] is None


def test_the_predicted_line_runs_through_every_point():
    assert predicted_line(FRONT) == ([9000, 7000, 5000, 3000], [40.0, 33.0, 25.0, 12.0])
    assert predicted_line(FRONT, 0.5)[0] == [4500, 3500, 2500, 1500]
    assert accuracy(FRONT.points[2], "agreement") is None


@pytest.mark.parametrize("suffix", ["png", "svg"])
@pytest.mark.parametrize("name", ["sqnr", "agreement"])
def test_the_drawing_is_the_same_every_time(tmp_path, suffix, name):
    front = Front("cycles", (name,), FRONT.bounds, FRONT.points, CHOSEN, 0.002)
    paths = [tmp_path / f"{n}.{suffix}" for n in (1, 2)]
    for path in paths:
        draw(front, path)
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert first[1:4] == b"PNG" if suffix == "png" else b"<svg" in first


def drawn(front: Front, path: Path) -> tuple[dict[str, int], str]:
    """How many marks each kind of point has over all parts of the drawing, and all its text."""
    draw(front, path)
    root = ElementTree.parse(path).getroot()
    marks = Counter()
    for group in root.iter(f"{SVG}g"):
        # A few simple marks are drawn one by one, others are uses of one path.
        single = group.findall(f"{SVG}path")
        marks[group.get("id")] += len(single) + len(group.findall(f".//{SVG}use"))
    return marks, "".join(root.itertext())


def test_the_drawing_has_every_measured_point(tmp_path):
    marks, text = drawn(FRONT, tmp_path / "front.svg")
    assert [marks[kind] for kind in ("measured, calibration", "held out", "chosen")] == [3, 2, 1]
    for label in ("predicted", "measured, calibration", "held out", "chosen", "kB", "SQNR, dB"):
        assert label in text


def test_another_figure_is_drawn_below_and_what_is_far_off_stands_at_the_edge(tmp_path):
    figure = replace(FRONT, figures=("agreement",), bounds=(parse_bound("agreement>=0.938"),))
    marks, text = drawn(figure, tmp_path / "front.svg")
    # 0.94 is 0.002 above the bound: 0.924 is less than ten times that below it, 0.911 is more.
    assert marks["measured, calibration"] == 3 + 2
    assert marks["measured, calibration below"] == 1
    assert marks["held out below"] == 2
    assert "agreement" in text
