"""Sections of benchmarks/README.md on nnaq beside other quantisers."""

from rendering import markdown_table

REPEAT = "How to repeat it, what was changed for a peer and why a peer fails: `benchmarks/peers/README.md`."


def pipelines(result: dict) -> str:
    """Whole models through whole pipelines."""
    header = ("peer", "model", "form", "bits", "left in float", "clean", "noisy", "equal error rate")
    done = [row for row in result["rows"] if not row["failure"]]
    failed = [row for row in result["rows"] if row["failure"]]
    rows = [_pipeline(row) for row in sorted(done, key=lambda r: (r["model"], r["scheme"], r["peer"]))]
    lead = (
        f"The same float models and calibration data, {result['frames']:,} frames of AN4 for the voice "
        "detector (share of decisions as in float, clean and with noise at 0 dB), "
        f"{result['trials']:,} trials for the speaker encoder (float: "
        f"{100 * result['equal_error_rate_of_float']:.2f} %; a trial set this small moves by half a point). "
        "`silero_core` is the detector given the spectrum in float, `step` an LSTM written out as layers. "
        f"{REPEAT}"
    )
    refused = sorted({f"{r['peer']}, {r['model']} as {r['form']}, {r['scheme']}" for r in failed})
    tail = f"\nNot to be had: {'; '.join(refused)}.\n" if refused else ""
    return f"## Pipelines of peers\n\n{lead}\n\n{markdown_table(header, rows)}{tail}"


def _pipeline(row: dict) -> tuple[str, ...]:
    figures = row["figures"]
    shares = [figures.get(f"agreement:{part}") for part in ("clean", "noisy")]
    rate = figures.get("equal_error_rate")
    told = [f"{100 * share:.2f} %" if share is not None else "" for share in shares]
    left = row["left_in_float"].split(" (")[0]
    head = row["peer"], row["model"], row["form"], row["scheme"], left
    return (*head, *told, f"{100 * rate:.2f} %" if rate is not None else "")


def palettes_of_peers(result: dict) -> str:
    """Codebooks of the same weights."""
    done = [row for row in result["rows"] if not row["failure"]]
    rows = [
        (row["peer"], row["granularity"], str(row["bits"]), *_sqnr(row), *_accuracy(row))
        for row in sorted(done, key=lambda r: (-r["bits"], r["granularity"], r["peer"]))
    ]
    header = (
        "peer",
        "tables",
        "bits",
        "least SQNR dB",
        "mean SQNR dB",
        "detector, clean",
        "detector, noisy",
        "equal error rate",
    )
    lead = (
        "The same weights of both models, found without calibration data, put back into the float models; "
        f"SQNR of the weights over all layers. {REPEAT}"
    )
    return f"## Codebooks of peers\n\n{lead}\n\n{markdown_table(header, rows)}"


def _sqnr(row: dict) -> tuple[str, str]:
    values = list(row["weight_sqnr_db"].values())
    return f"{min(values):.2f}", f"{sum(values) / len(values):.2f}"


def _accuracy(row: dict) -> tuple[str, ...]:
    detector, rate = row["figures"]["silero"], row["figures"]["voice"]["equal_error_rate"]
    shares = [f"{100 * detector[f'agreement:{part}']:.2f} %" for part in ("clean", "noisy")]
    return (*shares, "" if rate is None else f"{100 * rate:.2f} %")


def weight_codecs(result: dict) -> str:
    """Bytes beside Vela's codec."""
    totals: dict[int, list[int]] = {}
    for row in result["rows"]:
        sizes = [
            row[name] for name in ("int8_bytes", "index_bytes", "vela_bytes_palette_codes", "vela_bytes_int8")
        ]
        before = totals.setdefault(row["bits"], [0] * len(sizes))
        totals[row["bits"]] = [a + b for a, b in zip(before, sizes, strict=True)]
    rows = [
        (str(bits), *(f"{size:,}" for size in sizes)) for bits, sizes in sorted(totals.items(), reverse=True)
    ]
    header = ("bits", "int8", "indices", "palette codes in Vela's codec", "int8 codes in Vela's codec")
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    lead = (
        "Bytes of all layers of both models, tables and scales apart: indices of fixed width, and the same "
        f"codes in the entropy codec of {versions}, which a chip of that family decodes."
    )
    return f"## Bytes of weights\n\n{lead}\n\n{markdown_table(header, rows)}"


def speakers(result: dict) -> str:
    """The speaker encoder in 8 bits."""
    trials = result["trials"]
    rows = [("float", f"{100 * trials['float']:.2f} %", "")] + [
        (f"activations {r['activations']}", f"{100 * r['equal_error_rate']:.2f} %", f"{r['sqnr_db']:.1f}")
        for r in result["rows"]
    ]
    every = " and ".join(
        f"{100 * row['equal_error_rate']:.2f} % with {name}" for name, row in result["float_on_all"].items()
    )
    lead = (
        f"Equal error rate over {trials['trials']:,} trials, all pairs of {trials['utterances']} utterances "
        f"of {trials['speakers']} speakers not calibrated on. On all 806 utterances float has {every}. "
        "How to repeat it is told at the top of `benchmarks/speaker.py`."
    )
    return f"## Speaker encoder\n\n{lead}\n\n{markdown_table(('model', 'rate', 'SQNR dB'), rows)}"
