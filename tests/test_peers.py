"""The committed results about peers: every row can be repeated and says what it leaves in float."""

import json
from pathlib import Path

import pytest

PEERS = Path(__file__).resolve().parents[1] / "benchmarks" / "peers"
RESULTS = PEERS.parent / "results"
PINS = {line for file in PEERS.glob("requirements-*.txt") for line in file.read_text().split()}


def rows(name: str) -> list[dict]:
    return json.loads((RESULTS / name).read_text())["rows"]


@pytest.mark.parametrize("name", ["peers.json", "peers_codebooks.json"])
def test_rows_have_figures_or_a_reason(name: str) -> None:
    for row in rows(name):
        assert bool(row.get("figures")) != bool(row["failure"]), row


@pytest.mark.parametrize("name", ["peers.json", "peers_codebooks.json"])
def test_versions_are_those_of_the_environments(name: str) -> None:
    for row in rows(name):
        for package, version in row["versions"].items():
            assert package == "nnaq" or f"{package}=={version.split('+')[0]}" in PINS, row


def test_every_finished_pipeline_says_what_it_leaves_in_float() -> None:
    assert all(row["left_in_float"] for row in rows("peers.json") if row["failure"] is None)


def test_nnaq_stands_beside_the_peers() -> None:
    for name in ("peers.json", "peers_codebooks.json"):
        assert {"nnaq"} < {row["peer"] for row in rows(name)}


def test_vela_stores_what_is_counted() -> None:
    for row in rows("storage.json"):
        assert row["index_bytes"] == -(-row["values"] * row["bits"] // 8)
        assert row["vela_bytes_palette_codes"] > 0 and row["int8_bytes"] == row["values"]
