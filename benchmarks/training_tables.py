"""The sections of benchmarks/README.md on training, from their results."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, stdev

from rendering import circumstances, markdown_table, time_of

SEEDS = 3
NAMES = {
    "lloyd_max": "Lloyd-Max, no training",
    "ste": "STE on fixed tables",
    "lsq": "LSQ",
    "acosr": "ACosR",
    "mracos": "MRACos",
    "mracos_plain": "MRACos, not width-normalised",
    "s8bqat": "MRACos + hard compressor",
    "general_quantizer": "GQ",
    "dkm": "DKM",
}


def transducer(records: list[dict]) -> str:
    """The RNN-T loss against its peers."""
    rows = [
        (r["work"], r["peer"], f"{r['ratio']:.2f}", time_of(r["seconds"]), f"{r['gradient_error']:.1e}")
        for r in records
    ]
    header = "work", "peer", "ratio", "time of nnaq", "largest error of our gradient"
    lead = (
        "Batch 8, 200 frames, 50 labels, 128 symbols. Errors are against our own float64; `log_softmax` "
        "alone is less work than the loss and stands for its floor."
    )
    return f"## Transducer loss\n\n{lead}\n\n{markdown_table(header, rows)}\n{circumstances(records[0])}"


def training_step(records: list[dict]) -> str:
    """A step of training beside torch's own."""
    header = ("model and way", "peer", "to reach", "ratio", "nnaq", "the peer", "held by nnaq", "by the peer")
    rows = [
        (
            r["work"],
            r["peer"],
            f"{r['target']:.2f}, {'met' if r['met'] else 'missed'}" if r["target"] else "",
            f"{r['ratio']:.2f}",
            time_of(r["seconds"]),
            time_of(r["peer_seconds"]),
            *(f"{r[name] / 1e6:.1f} MB" for name in ("held_bytes", "peer_held_bytes")),
        )
        for r in records
    ]
    lead = (
        "Forward pass, backward pass down to the inputs, one step of SGD, after which the integers of the "
        "weights are made anew. `fake_quantize`: torch's own operator on inputs, weights and results, for "
        "the LSTM in a loop over time. `held`: what waits for the backward pass, parameters apart."
    )
    return f"## Training step\n\n{lead}\n\n{markdown_table(header, rows)}\n{circumstances(records[0])}"


def promise(result: dict) -> str:
    """How many integers of training, simulator and file were compared."""
    kinds: dict[str, list[dict]] = defaultdict(list)
    for row in result["rows"]:
        kinds[row["subject"].split(" ")[0]].append(row)
    header = "subjects", "how many", "integers compared", "differ in the simulator", "differ in the file"
    keys = "values", "simulator_mismatches", "file_mismatches"
    rows = [
        (f"{kind}s", str(len(rows)), *(f"{sum(row[key] for row in rows):,}" for key in keys))
        for kind, rows in kinds.items()
    ]
    lead = (
        "Every integer of the training forward pass beside the simulator's and the exported file's, after "
        "training steps: operators at 8 and 16 bits, models with plain, 16-bit, palette, learned and moving "
        f"choices. `{result['command']}`"
    )
    return f"## The promise of training\n\n{lead}\n\n{markdown_table(header, rows)}"


def spread(values: Sequence[float]) -> str:
    """Mean in points and, of several, spread; how many there are, where they are not three.

    >>> spread([0.2, 0.22, 0.24]), spread([0.2, 0.22]), spread([0.2])
    ('22.0 ± 2.0', '21.0 ± 1.4 (2)', '20.0 (1)')
    """
    around = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    count = "" if len(values) == SEEDS else f" ({len(values)})"
    return f"{100 * mean(values):.1f}{around}{count}"


def figures(rows: Iterable[dict], split: str, measure: str = "wer") -> list[float]:
    return [row[split][measure] for row in rows]


def schemes(result: dict) -> str:
    """Bits x scheme: word error rates of hard tables, mean and spread over seeds."""
    floats = [row for row in result["rows"] if row["kind"] == "float"]
    rows = [row for row in result["rows"] if row["kind"] == "scheme"]
    if not rows:
        return ""
    table = _by_bits(rows, "test")
    development = _by_bits(rows, "dev")
    minutes = sum(row["seconds"] for row in result["rows"]) / 60
    lead = (
        "Word error rate in % on AN4's test set (130 recordings, 773 words: one word is 0.13 points, "
        "differences below 0.5 are noise), by the integer simulator with hard int8 tables: mean ± deviation "
        "over three seeds, (1) or (2) for so few. 291 k parameters, every weight on one table per tensor "
        "with a scale per output channel (LSQ: one step per tensor), activations 8 bits; weights train with "
        f"float activations. All start from the float model of their seed ({spread(figures(floats, 'test'))}"
        f"; dev {spread(figures(floats, 'dev'))}), which the first row rounds and the others train for 6 "
        "epochs more. Rate (1e-3, 3e-4) and strength (0.1, 1, 10) are those that halving found on dev at 3 "
        "bits with the first seed: 6 trials for pulled schemes, those of MRACos for all its forms, 2 for "
        "others, none for DKM, which is ten times as slow. Most chose the lower rate and MRACos the greater "
        "strength, ends of their grids: more may be in them. Cells left empty were not run."
    )
    return (
        f"## Bits and schemes\n\n{lead}\n\n{table}\nThe development set (581 words), which chose epochs and "
        f"options:\n\n{development}\n{minutes:.0f} minutes of runs, {_versions(rows[0])}.\n\n"
        f"    {result['command']}\n"
    )


def _by_bits(rows: Sequence[dict], split: str) -> str:
    bits = sorted({row["bits"] for row in rows}, reverse=True)
    lines = []
    for scheme, name in NAMES.items():
        cells = []
        for width in bits:
            found = figures((r for r in rows if (r["bits"], r["scheme"]) == (width, scheme)), split)
            cells.append(spread(found) if found else "")
        if any(cells):
            lines.append((name, *cells))
    return markdown_table(("scheme", *(f"{width} bit{'s' * (width > 1)}" for width in bits)), lines)


def _versions(row: Mapping[str, Mapping[str, str]]) -> str:
    return ", ".join(f"{name} {number}" for name, number in row["versions"].items())


def claims(records: list[dict]) -> str:
    """What published claims come to here."""
    rows = [
        (
            r["claim"],
            r["paper"],
            f"{100 * r['ours']:+.1f} % ({100 * r['low']:+.1f} … {100 * r['high']:+.1f})",
            str(r["seeds"]),
            r["verdict"],
        )
        for r in records
    ]
    lead = (
        "Relative change of word errors, or of bytes, seed by seed: mean, least and greatest. `supported`: "
        "every seed stays within what is claimed (word errors: within 2 % of them, half a point); `not "
        "supported`: none does. Task, model size and our forms of the methods differ from the publications', "
        "several forms are reconstructions: a verdict is on nnaq's form on this task, not on a paper."
    )
    header = "claim", "published", "here", "seeds", "verdict"
    return f"## Published claims\n\n{lead}\n\n{markdown_table(header, rows)}"


def awareness(result: dict) -> str:
    """What emulating a machine costs, and what training with the emulation wins back."""
    rows = [row for row in result["rows"] if row["kind"] == "awareness"]
    if not rows:
        return ""
    machines = list(dict.fromkeys(row["machine"] for row in rows))
    ways = ("plain", "control", "aware", "hybrid")
    lines = []
    for machine in machines:
        cells = []
        for way in ways:
            ran = [r for r in rows if (r["machine"], r["way"]) == (machine, way)]
            found = [r for r in ran if "stopped" not in r]
            stopped = f"{len(ran) - len(found)} of {len(ran)} stopped" if len(found) < len(ran) else ""
            cells.append(", ".join(filter(None, (spread(figures(found, "test")) if found else "", stopped))))
            if way != "control":
                each = [row["microseconds_per_step"] for row in found]
                cells.append(f"{mean(each):.0f}" if each else "")
        lines.append((machine, *cells))
    us = "us a step"
    header = ("machine", "without awareness", us, "longer in float", "with awareness", us, "hybrid", us)
    floats = [row for row in result["rows"] if row["kind"] == "float"]
    lead = (
        "Word error rate in % on AN4's test set of int8 models on `edge8` with other numerics; float: "
        f"{spread(figures(floats, 'test'))}. Without awareness: calibrated, not trained on. Longer in float: "
        "6 more epochs in float, then calibrated, which is what training alone gives. With awareness: these "
        "epochs through the very integers of the machine. Hybrid: recurrent layers on the host in float, not "
        "trained on; latency by the model of the target, transfers included, per step of 60 ms. Stopped: "
        "the gradient through those integers was infinite or no number. Cells left empty were not run; "
        "18 bits were tried because 16 had destroyed the model, not planned before."
    )
    return (
        f"## Knowing the accelerator\n\n{lead}\n\n{markdown_table(header, lines)}\n{_versions(rows[0])}.\n\n"
        f"    {result['command']}\n"
    )
