"""The page of the recognisers, from benchmarks/results/recognisers.json."""

import json
from typing import Any

from pages.markdown import ROOT, heading, markdown_table
from pages.recogniser_sizes import at_equal_parameters, below_eight_bits, lowering, of_sizes

TEXT = ROOT / "docs" / "pages" / "recognition.md"


def recognition() -> str:
    """How recognisers are trained, lowered and heard, how well those that ship hear, what sizes take."""
    text, sizes = TEXT.read_text(encoding="utf-8"), read("recogniser_sizes.json")
    parts = {
        "{figures}": figures(read("recognisers.json")),
        "{sizes}": of_sizes(sizes),
        "{equal}": at_equal_parameters(sizes),
        "{bits}": below_eight_bits(sizes),
        "{lowering}": lowering(sizes),
    }
    for mark, part in parts.items():
        text = text.replace(mark, part)
    return heading("Speech recognition", text)


def read(name: str) -> dict[str, Any]:
    return dict(json.loads((ROOT / "benchmarks" / "results" / name).read_text(encoding="utf-8")))


def figures(found: dict[str, Any]) -> str:
    """The tables, and what they say about integers against float."""
    rows = found["rows"]
    said = "\n".join(f"- `{row['model']}`: {sentence(row, found['within'])}" for row in rows)
    return f"{errors(rows)}\n{said}\n\n{of_shipped(rows)}\nRepeat with `{found['command']}`.\n"


def errors(rows: list[dict[str, Any]]) -> str:
    """Word errors of each, float and integer."""
    ways = {"float": "float", "integer": "int8", "integer_beam_8": "int8, beam of 8"}
    lines = [
        (
            f"`{row['model']}`",
            way,
            f"{row[key]['word_error_rate']:.1%}",
            f"{row[key]['low']:.1%} to {row[key]['high']:.1%}",
            *(str(row[key][kind]) for kind in ("substitutions", "deletions", "insertions")),
        )
        for row in rows
        for key, way in ways.items()
    ]
    return markdown_table(
        ("recogniser", "arithmetic", "word errors", "95 %", "substituted", "left out", "put in"), lines
    )


def sentence(row: dict[str, Any], within: float) -> str:
    """The paired difference and what it decides."""
    points = [f"{100 * row[key]:+.2f}" for key in ("difference", "upper", "detectable")]
    return (
        f"int8 against float on the same {row['words']} words: {points[0]} points, at most {points[1]} "
        f"(one-sided 95 %); an experiment of this size shows differences from {points[2][1:]} points on. "
        f"That integers lose no more than {100 * within:g} points is **{row['verdict']}**."
    )


def of_shipped(rows: list[dict[str, Any]]) -> str:
    """Bytes, and the machine's time."""
    lines = [
        (
            f"`{row['model']}`",
            f"{row['parameters']:,}",
            f"{row['weight_bytes']:,}",
            f"{row['state_bytes']:,}",
            f"{row['cycles_per_frame']:,}",
            f"{row['microseconds_per_frame']:.0f}",
            f"{1e3 * row['seconds_per_frame']:.0f}",
        )
        for row in rows
    ]
    return markdown_table(
        (
            "recogniser", "parameters", "weight bytes", "state bytes",
            f"cycles per frame on {rows[0]['target']}",
            "µs per frame", "ms of sound per frame",
        ),
        lines,
    )  # fmt: skip
