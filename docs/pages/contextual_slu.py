"""The page of understanding with context, from benchmarks/results/contextual_slu.json."""

from typing import Any

from pages.markdown import ROOT, heading, markdown_table
from pages.recognition import read

TEXT = ROOT / "docs" / "pages" / "contextual_slu.md"
GAIN = 0.1  # of SemER and of word errors, relative: what context is to win


def contextual_slu() -> str:
    """What the task is, what was measured so far, what a turn's context takes."""
    found = read("contextual_slu.json")
    text = TEXT.read_text(encoding="utf-8")
    parts = {
        "{latency}": of_latency(found["latency"]),
        "{rows}": of_rows(found["rows"]),
        "{said}": said(found["rows"]),
    }
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


def said(rows: list[dict[str, Any]]) -> str:
    """What context changes, relative to none, seed by seed, and whether that is the gain wanted."""
    plain = {row["seed"]: row for row in rows if row["arm"] == "none"}
    lines = []
    for row in rows:
        if row["arm"] != "none" and row["seed"] in plain:
            changes = [
                row["found"][name] / plain[row["seed"]]["found"][name] - 1 for name in ("semer", "wer")
            ]
            verdict = "holds" if max(changes) <= -GAIN else "missed"
            lines.append(
                f"- `{row['arm']}`, seed {row['seed']}: SemER {changes[0]:+.1%}, word errors "
                f"{changes[1]:+.1%} relative to `none`; {GAIN:.0%} fewer of each: **{verdict}**."
            )
    return "\n".join(lines)
