"""Sections of benchmarks/README.md on weights below 8 bits."""

from statistics import mean, stdev

from rendering import circumstances, markdown_table, time_of


def finder_speed(records: list[dict]) -> str:
    """A million weights."""
    rows = [
        (
            r["work"],
            str(r["bits"]),
            f"{r['ratio']:.2f}",
            time_of(r["seconds"]),
            f"{r['peak_bytes'] / 1e6:.0f} MB",
            f"{r['sqnr']:.2f}",
            f"{r['peer_sqnr']:.2f}",
        )
        for r in records
    ]
    header = (
        "work",
        "bits",
        "ratio",
        "time of nnaq",
        "peak memory of nnaq",
        "SQNR dB",
        "SQNR dB of the peer",
    )
    first = records[0]
    lead = (
        f"{first['weights']:,} Gaussian weights to a table and int8 codes. Peer: {first['peer']}, which "
        f"gives real centroids and takes {first['peer_peak_bytes'] / 1e6:.0f} MB."
    )
    return f"## Finding a codebook\n\n{lead}\n\n{markdown_table(header, rows)}\n{circumstances(first)}"


def packed_speed(records: list[dict]) -> str:
    """Kernels on packed indices."""
    rows = [
        (
            r["work"],
            f"{r['ratio']:.2f}",
            time_of(r["seconds"]),
            f"{r['bytes'] / 1024:.0f} KiB",
            f"{r['peer_bytes'] / 1024:.0f} KiB",
        )
        for r in records
    ]
    header = ("work", "ratio", "time on indices", "indices and tables", "codes")
    lead = "Kernels that read packed indices, against the same kernels on int8 codes; equal to the bit."
    return f"## Packed weights\n\n{lead}\n\n{markdown_table(header, rows)}\n{circumstances(records[0])}"


def below_8_bits(result: dict) -> str:
    """Bits x method x granularity on two models."""
    parts = [_model(model, result["rows"]) for model in ("detector", "encoder")]
    lead = (
        "Without training, without search: all weights of a model on palettes of one kind, activations as "
        "`auto` chose them for int8 weights. `weighted`: tables found by what meets each weight in "
        "calibration; `feedback`: so, and error feedback after it; `repaired`: and bias correction besides. "
        "Bytes are indices, "
        "tables and scales; the latency is that of one frame as modelled on `edge8-sub8`. Where a row has "
        "several seeds, which draw the recordings of calibration, mean and standard deviation stand there. "
        "How to repeat it is told at the top of `benchmarks/sub8.py`."
    )
    return "\n\n".join(["## Below 8 bits", lead, *filter(None, parts)]) + "\n"


def _model(model: str, every: list[dict]) -> str:
    """The table of a model; rows that differ in the seed only are one."""
    groups: dict[tuple[str, ...], list[dict]] = {}
    for row in every:
        if row["model"] == model:
            key = tuple(str(row[name] or "") for name in ("bits", "method", "granularity", "repair"))
            groups.setdefault(key, []).append(row)
    if not groups:
        return ""
    figure = "agreement" if model == "detector" else "equal_error_rate"
    names = {"agreement": "decisions as in float, %", "equal_error_rate": "equal error rate, %"}
    rows = [
        (
            *key,
            _spread([100 * r[figure] for r in rows]),
            _spread([r["sqnr_db"] for r in rows]),
            f"{rows[0]['total_bytes']:,}",
            f"{rows[0]['microseconds_per_frame']:.1f}",
            str(len(rows)),
        )
        for key, rows in sorted(groups.items(), key=lambda item: (-int(item[0][0]), item[0][1:]))
    ]
    header = ("bits", "method", "tables", "data", names[figure], "SQNR dB", "bytes", "us per frame", "seeds")
    titles = {"detector": "Voice detector", "encoder": "Speaker encoder"}
    float_rates = sorted({(r["seed"], r["float"]) for rows in groups.values() for r in rows if "float" in r})
    told = ", ".join(f"{100 * rate:.2f} % (seed {seed})" for seed, rate in float_rates)
    float_line = f"\n\nThe float model: {told}." if told else ""
    return f"### {titles[model]}{float_line}\n\n{markdown_table(header, rows)}"


def _spread(values: list[float]) -> str:
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def searched(result: dict) -> str:
    """The average of bits that a search was given."""
    rows = []
    for row in result["rows"]:
        eight, chosen = row["eight_bits"], row["chosen"]
        figures = [one["held_out"]["agreement"]["integer"] for one in (eight, chosen)]
        sizes = [one["measured"]["bytes"] for one in (eight, chosen)]
        rows.append((str(row["seed"]), *(f"{n:,}" for n in sizes), *(f"{100 * f:.2f}" for f in figures)))
    header = ("seed", "bytes in 8 bits", "bytes found", "agreement in 8 bits, %", "agreement found, %")
    lead = (
        f"The voice detector at {result['bits']:g} bits per weight on average, tables included, as "
        "`nnaq search` chose them on the calibration recordings; agreement with float on recordings not "
        "chosen from. How to repeat it is told at the top of `benchmarks/search_accuracy.py`."
    )
    return f"## Searched bits\n\n{lead}\n\n{markdown_table(header, rows)}"
