"""The page of exports, with its tables from benchmarks/results/exports.json."""

from collections.abc import Iterable
from statistics import mean
from typing import Any

from pages.markdown import ROOT, heading, markdown_table
from pages.recognition import read

TEXT = ROOT / "docs" / "pages" / "exports.md"


def exports() -> str:
    """What every format keeps and loses, and what other tools make of the files."""
    found = read("exports.json")
    text = TEXT.read_text(encoding="utf-8")
    parts = {"{qdq}": qdq(found["rows"]), "{tflite}": tflite(found["rows"]), "{command}": found["command"]}
    for mark, part in parts.items():
        text = text.replace(mark, part)
    return heading("For other tools", text)


def groups(rows: list[dict[str, Any]]) -> Iterable[tuple[str, int, list[dict[str, Any]]]]:
    """Rows of all seeds, by network and bits in the order of the file."""
    for name, bits in dict.fromkeys((row["network"], row["bits"]) for row in rows):
        yield name, bits, [row for row in rows if (row["network"], row["bits"]) == (name, bits)]


def qdq(rows: list[dict[str, Any]]) -> str:
    lines = [
        (f"`{name}`", str(len(same)), *(distance(same, word) for word in ("disable", "enable")))
        for name, bits, same in groups(rows)
        if bits == 8
    ]
    return markdown_table(("network", "seeds", "optimiser off", "optimiser on"), lines)


def distance(rows: list[dict[str, Any]], word: str) -> str:
    """The largest of all, and the mean."""
    largest = max(row[f"qdq_{word}_largest"] for row in rows)
    return f"{largest:.0f}, {mean(row[f'qdq_{word}_mean'] for row in rows):.3f}"


def tflite(rows: list[dict[str, Any]]) -> str:
    lines = [
        (
            f"`{name}`",
            str(bits),
            f"{sum(row['mismatches'] for row in same)} of {sum(row['values'] for row in same):,}",
            f"{same[0]['weights']:,}",
            spread([row["vela_bytes"] for row in same]),
            f"{mean(row['vela_bytes'] for row in same) / same[0]['weights']:.0%}",
        )
        for name, bits, same in groups(rows)
    ]
    columns = (
        "network", "bits", "values that differ in tflite-micro", "weights", "bytes by Vela", "of a byte each"
    )  # fmt: skip
    return markdown_table(columns, lines)


def spread(values: list[int]) -> str:
    """The mean, and half the distance of the outermost values where they differ."""
    half = (max(values) - min(values)) / 2
    return f"{mean(values):,.0f}" + (f" ± {half:.0f}" if half else "")
