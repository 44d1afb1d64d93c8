"""The section of benchmarks/README.md on the speaker encoder below 8 bits, judged on all speakers."""

from rendering import markdown_table


def all_speakers(result: dict) -> str:
    """The rows of 4 and 8 bits, with how far they are from float."""
    rows = sorted(result["rows"], key=lambda r: (-r["bits"], r["granularity"] or "", r["seed"]))
    header = ("bits", "method", "tables", "data", "seed", "equal error rate, %", "from float, points")
    table = markdown_table(
        (*header, "95 % interval", "SQNR dB", "bytes"), [(*_way(row), *_figures(row)) for row in rows]
    )
    lead = (
        f"The speaker encoder of the table above on all {result['judge']} speakers that are not calibrated "
        "on, instead of 24. The interval is that of the distance from float over resampled speakers "
        "(`benchmarks/sub8_intervals.py`). The first seed has all ways of one table per channel, the others "
        f"only `feedback`, which is {_mean_distance(rows)}. How to repeat it is told at the top of "
        "`benchmarks/sub8.py`."
    )
    rates = sorted({(row["seed"], row["float"]) for row in rows})
    told = ", ".join(f"{100 * rate:.2f} % (seed {seed})" for seed, rate in rates)
    return f"## Below 8 bits, all speakers\n\n{lead}\n\nThe float model: {told}.\n\n{table}"


def _mean_distance(rows: list[dict]) -> str:
    """How far error feedback is from float over its seeds."""
    points = [100 * (row["equal_error_rate"] - row["float"]) for row in rows if row["repair"] == "feedback"]
    return f"{sum(points) / len(points):+.2f} points from float on average of {len(points)} seeds"


def _way(row: dict) -> tuple[str, ...]:
    names = ("bits", "method", "granularity", "repair")
    return (*(str(row[name] or "") for name in names), str(row["seed"]))


def _figures(row: dict) -> tuple[str, ...]:
    distance = row["equal_error_rate"] - row["float"]
    low, high = (f"{100 * row[f'difference_{end}']:+.2f}" for end in ("low", "high"))
    rate, points = f"{100 * row['equal_error_rate']:.2f}", f"{100 * distance:+.2f}"
    return rate, points, f"{low} … {high}", f"{row['sqnr_db']:.2f}", f"{row['total_bytes']:,}"
