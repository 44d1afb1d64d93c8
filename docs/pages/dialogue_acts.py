"""The page of dialogue acts, from benchmarks/results/dialogue_acts.json and pitch.json."""

from typing import Any

from pages.markdown import ROOT, heading, markdown_table
from pages.recognition import read

TEXT = ROOT / "docs" / "pages" / "dialogue_acts.md"
HARMLESS = 0.005  # of accuracy: what prosody may cost where it tells nothing
WITHIN = 0.01  # of accuracy: what integers may lose


def dialogue_acts() -> str:
    """What the task is, how pitch is found, how well arms do, and what that says."""
    pitch, acts = read("pitch.json"), read("dialogue_acts.json")
    text = TEXT.read_text(encoding="utf-8")
    parts = {
        "{pitch}": of_pitch(pitch["rows"]),
        "{pitch_command}": pitch["command"],
        "{acts}": of_acts(acts["rows"]),
        "{said}": "\n".join(said(acts["rows"])),
    }
    for mark, part in parts.items():
        text = text.replace(mark, part)
    return heading("Dialogue acts", text)


def of_pitch(rows: list[dict[str, Any]]) -> str:
    """Errors of pitch by sound, noise and tracker."""
    lines = [
        (
            row["sound"],
            "clean" if row["snr_db"] is None else f"{row['snr_db']} dB",
            row["tracker"],
            f"{row['gross']:.1%}",
            f"{row['voicing']:.1%}",
            f"{row['frames']:,}",
        )
        for row in rows
    ]
    return markdown_table(
        ("sound", "noise", "tracker", "gross pitch errors", "voicing errors", "frames"), lines
    )


def of_acts(rows: list[dict[str, Any]]) -> str:
    """Accuracy of every training, float and integer, and how far its gates are open."""
    lines = [
        (
            row["data"],
            f"`{row['arm']}`",
            str(row["seed"]),
            f"{row['parameters']:,}",
            f"{row['counts'][2]}",
            *(
                f"{row[way][figure]:.1%}"
                for way in ("float", "integer")
                for figure in ("accuracy", "macro_f1")
            ),
            *(
                f"{row['gates'][name]:.2f}" if name in row["gates"] else ""
                for name in ("gate_local", "gate_global")
            ),
            f"{row['mcnemar_p']:.1g}" if "mcnemar_p" in row else "",
        )
        for row in rows
    ]
    columns = (
        "data|arm|seed|parameters|test utterances|float: accuracy|macro F1|int8: accuracy|macro F1|"
        "local gate|global gate|p"
    )
    return markdown_table(columns.split("|"), lines)


def said(rows: list[dict[str, Any]]) -> list[str]:
    """What the rows say of each goal, for `both` against `none`."""
    pairs = [
        (row, plain)
        for row in rows
        for plain in rows
        if row["arm"] == "both"
        and plain["arm"] == "none"
        and (row["data"], row["seed"]) == (plain["data"], plain["seed"])
    ]
    made = []
    for row, plain in pairs:
        gain = 100 * (row["float"]["accuracy"] - plain["float"]["accuracy"])
        lost = row["float"]["accuracy"] - row["integer"]["accuracy"]
        text = f"- `{row['data']}`, seed {row['seed']}: `both` is {gain:+.1f} points from `none`"
        if row["data"] == "control":
            text += f"; no harm beyond {100 * HARMLESS:g} points: {verdict(-gain / 100 <= HARMLESS)}"
        held = verdict(lost <= WITHIN)
        made.append(f"{text}; int8 is {-100 * lost:+.1f} points from float, within {100 * WITHIN:g}: {held}.")
    return made


def verdict(holds: bool) -> str:
    return "**holds**" if holds else "**missed**"
