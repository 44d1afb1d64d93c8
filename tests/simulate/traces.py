"""The rules of the Trace Event Format, as Perfetto reads it, for the records that nnaq writes."""

import itertools
import json
from collections import Counter

FIELDS = {
    "M": {"ph", "pid", "name", "args"},
    "X": {"ph", "pid", "tid", "name", "cat", "ts", "dur", "args"},
    "C": {"ph", "pid", "name", "ts", "args"},
    "s": {"ph", "pid", "tid", "name", "cat", "id", "ts"},
    "f": {"ph", "pid", "tid", "name", "cat", "id", "ts", "bp"},
}


def must_be_valid(records: list[dict]) -> None:
    """What the Trace Event Format and Perfetto's importer ask of these phases."""
    records = json.loads(json.dumps(records, allow_nan=False))
    for record in records:
        assert FIELDS[record["ph"]] <= record.keys(), record
        assert record["pid"] == 0 and isinstance(record["name"], str)
        assert record.get("ts", 0) >= 0
    slices = [r for r in records if r["ph"] == "X"]
    assert {r["tid"] for r in slices} <= {r["tid"] for r in records if r["name"] == "thread_name"}
    for thread in {r["tid"] for r in slices}:
        row = sorted((r for r in slices if r["tid"] == thread), key=lambda r: r["ts"])
        for one, other in itertools.pairwise(row):
            assert one["dur"] > 0
            assert one["ts"] + one["dur"] <= other["ts"] + 1e-9  # slices of a thread may not overlap
    arrows = [r for r in records if r["ph"] in "sf"]
    for number in {r["id"] for r in arrows}:
        start, finish = (next(r for r in arrows if r["id"] == number and r["ph"] == p) for p in "sf")
        assert start["ts"] <= finish["ts"] + 1e-9
        assert finish["bp"] == "e"
        for end in (start, finish):
            inside = [
                r
                for r in slices
                if r["tid"] == end["tid"] and r["ts"] - 1e-9 <= end["ts"] < r["ts"] + r["dur"] - 1e-9
            ]
            assert len(inside) == 1, end
    assert all(count == 2 for count in Counter(r["id"] for r in arrows).values())
    for record in records:
        if record["ph"] == "C":
            assert all(isinstance(value, int) and value >= 0 for value in record["args"].values())
