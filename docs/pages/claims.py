"""The page of published claims, from benchmarks/results/claims_speech.json."""

from collections.abc import Mapping
from typing import Any

from pages.markdown import ROOT, heading, markdown_table
from pages.recognition import read

TEXT = ROOT / "docs" / "pages" / "claims.md"


def claims() -> str:
    """What publications say, what comes out here, what differs."""
    found = read("claims_speech.json")["claims"]
    parts = {
        "{words}": str(max(claim["words"] for claim in found)),
        "{seeds}": " or ".join(str(count) for count in sorted({claim["seeds"] for claim in found})),
        "{speech}": markdown_table(
            ("claim", "published", "before", "after", "change", "detectable", "seeds", "verdict"),
            [row(claim) for claim in found],
        ),
    }
    text = TEXT.read_text(encoding="utf-8")
    for mark, part in parts.items():
        text = text.replace(mark, part)
    return heading("Published claims", text)


def row(claim: Mapping[str, Any]) -> tuple[str, ...]:
    """A line of the table; rates are word errors, other figures as their unit says."""
    rates = "upper" in claim
    before, after = (f"{claim[side]:.1%}" if rates else figure(claim[side]) for side in ("before", "after"))
    change = points if "unit" in claim else percent
    return (
        *(claim["claim"], claim["paper"], before, after),
        f"{change(claim['ours'])} ({change(claim['low'])} to {change(claim['high'])})"
        + (" points" if "unit" in claim else ""),
        change(claim["detectable"]).lstrip("+") if rates else "",
        *(str(claim["seeds"]), claim["verdict"]),
    )


def percent(change: float) -> str:
    """A relative change."""
    return f"{change:+.1%}"


def points(change: float) -> str:
    """A change of a rate in its own points."""
    return f"{100 * change:+.1f}"


def figure(exact: float) -> str:
    """Bytes or microseconds; milliseconds are small."""
    return f"{exact:,.0f}" if exact >= 1000 else f"{exact:.4g}"
