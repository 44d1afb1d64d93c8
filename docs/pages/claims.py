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
    before, after = (f"{claim[side]:.1%}" if rates else f"{claim[side]:,.4g}" for side in ("before", "after"))
    return (
        *(claim["claim"], claim["paper"], before, after),
        f"{claim['ours']:+.1%} ({claim['low']:+.1%} to {claim['high']:+.1%})",
        f"{claim['detectable']:.1%}" if rates else "",
        *(str(claim["seeds"]), claim["verdict"]),
    )
