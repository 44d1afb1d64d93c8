"""The page of understanding with context, from benchmarks/results/contextual_slu.json."""

from typing import Any

from pages.markdown import ROOT, heading, markdown_table
from pages.recognition import read

TEXT = ROOT / "docs" / "pages" / "contextual_slu.md"


def contextual_slu() -> str:
    """What the task is, what was measured so far, what a turn's context takes."""
    found = read("contextual_slu.json")
    text = TEXT.read_text(encoding="utf-8")
    parts = {"{latency}": of_latency(found["latency"]), "{rows}": of_rows(found["rows"])}
    for mark, part in parts.items():
        text = text.replace(mark, part)
    return heading("Understanding with the context of a dialogue", text)


def of_latency(rows: list[dict[str, Any]]) -> str:
    """Cycles of a turn's context and of a word, by arm."""
    lines = [
        (
            f"`{row['arm']}`",
            f"{row['parameters']:,}",
            *(
                f"{row[f'{what}_cycles']:,} ({row[f'{what}_microseconds']:g} µs)"
                if f"{what}_cycles" in row
                else ""
                for what in ("turn", "word")
            ),
            row["target"],
        )
        for row in rows
    ]
    return markdown_table(("context", "parameters", "once a turn", "once a word", "target"), lines)


def of_rows(rows: list[dict[str, Any]]) -> str:
    """SemER and word errors of every training under every condition, and act accuracy."""
    names = ("found", "integer", "true", "shuffled", "first", "later")
    lines = [
        (
            *(f"`{row['arm']}`", str(row["seed"]), str(row["epochs"])),
            *(f"{row[name]['semer']:.1%} / {row[name]['wer']:.1%}" for name in names),
            f"{row['found']['act_accuracy']:.1%}",
        )
        for row in rows
    ]
    return markdown_table(("context", "seed", "epochs", *names, "acts found"), lines)
