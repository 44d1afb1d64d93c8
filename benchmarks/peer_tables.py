"""Sections of benchmarks/README.md on nnaq beside other quantisers."""

from rendering import markdown_table

FLOAT_LSTM = "Its LSTM stays in float, nnaq's computes in integers."
FLOAT_BETWEEN = (
    "Its operators compute in float between roundings to codes; nnaq's sums, multipliers and tables of "
    "sigmoid and tanh are integers."
)
COMPUTES_BETWEEN = {("ONNX Runtime", "W8A16"), ("ONNX Runtime", "W4A8"), ("torchao PT2E", "W8A16")}
"""Peers that have no integer kernels for such bits and were run without; see benchmarks/peers/README.md."""

REPEAT = "How to repeat it, what was changed for a peer and why a peer fails: `benchmarks/peers/README.md`."


def pipelines(result: dict) -> str:
    """Whole models through whole pipelines."""
    done = [row for row in result["rows"] if not row["failure"]]
    ordered = sorted(done, key=lambda r: (r["model"], bits_of(r), r["peer"], r["form"], r["scheme"]))
    names = ("peer", "model", "form", "bits", "left in float", "clean", "noisy", "equal error rate")
    table = markdown_table((*names, "ahead of"), [(*_pipeline(row), ahead_of(row, done)) for row in ordered])
    lead = (
        f"The same float models and calibration data, {result['frames']:,} frames of AN4 for the voice "
        "detector (share of decisions as in float, clean and with noise at 0 dB), "
        f"{result['trials']:,} trials of {result['speakers']} speakers for the speaker encoder (float: "
        f"{100 * result['equal_error_rate_of_float']:.2f} %; in brackets how far from that a rate may be: "
        "the 95 % interval over resampled speakers, in points). `silero_core` is the detector given the "
        "spectrum in float, `step` an LSTM written out as layers. **`left in float` is arithmetic that a "
        "peer does not quantise: `LSTM` there is a float LSTM.** `ahead of`: the peer has a better figure "
        "than nnaq's `plain` row of these bits, or than `all` of its rows of these bits (`auto`, which "
        f"raises activations to 16 bits, counts with neither). {REPEAT}"
    )
    losses = _losses(ordered, done, result["equal_error_rate_of_float"])
    return f"## Pipelines of peers\n\n{lead}\n\n{table}\n{losses}\n{_refused(result['rows'])}"


def bits_of(row: dict) -> str:
    """What the bits of a row are compared by: W8A8 of `W8A8 feedback`."""
    return row["scheme"].split()[0]


def better_figures(row: dict, others: list[dict]) -> list[str]:
    """The figures in which a row is better than every one of the others has it."""
    found = []
    for name, value in row["figures"].items():
        if name.startswith("agreement") and all(value > one["figures"][name] for one in others):
            found.append(name)
        if name == "equal_error_rate" and value is not None:
            found += [name] if all(value < one["figures"][name] for one in others) else []
    return found


def ours(row: dict, done: list[dict]) -> list[dict]:
    """nnaq's rows of a row's model and bits; those that raise activations are of other bits."""
    same = [one for one in done if (one["model"], bits_of(one)) == (row["model"], bits_of(row))]
    return [one for one in same if one["peer"] == "nnaq" and not one["scheme"].endswith("auto")]


def ahead_of(row: dict, done: list[dict]) -> str:
    """Which of nnaq's rows a peer's row has a better figure than."""
    mine = ours(row, done)
    plain = [one for one in mine if one["scheme"] == bits_of(one)]
    if row["peer"] == "nnaq" or not plain:
        return ""
    return "all" if better_figures(row, mine) else "plain" if better_figures(row, plain) else ""


def reason(row: dict) -> str | None:
    """Why a peer is ahead of nnaq's row; None where nothing is known."""
    if "lstm" in row["left_in_float"].lower():
        return FLOAT_LSTM
    return FLOAT_BETWEEN if (row["peer"], bits_of(row)) in COMPUTES_BETWEEN else None


def _losses(ordered: list[dict], done: list[dict], float_rate: float) -> str:
    """How many rows of peers are ahead, and why."""
    peers = [row for row in ordered if row["peer"] != "nnaq" and ours(row, done)]
    rows = {which: [row for row in peers if ahead_of(row, done) == which] for which in ("all", "plain")}
    parts = [f"In {len(peers) - len(rows['all'])} of {len(peers)} rows of peers nnaq is ahead or equal.\n"]
    for which, title in {"all": "all of nnaq's rows", "plain": "nnaq's plain row only"}.items():
        told = [_loss(row, ours(row, done), which, float_rate) for row in rows[which]]
        parts += [f"\nAhead of {title}:\n\n{''.join(told)}"] if told else []
    return "".join(parts)


def _loss(row: dict, mine: list[dict], which: str, float_rate: float) -> str:
    """A line on a row that is ahead: by how much, why, and whether that is more than chance."""
    words = {"agreement:clean": "clean", "agreement:noisy": "noisy", "equal_error_rate": "equal error rate"}
    beside = mine if which == "all" else [one for one in mine if one["scheme"] == bits_of(one)]
    parts, chance = [], ""
    for name in better_figures(row, beside):
        best = max(beside, key=lambda one: one["figures"][name] * (-1 if name == "equal_error_rate" else 1))
        value = row["figures"][name]
        parts.append(f"{words[name]} {100 * value:.2f} % against {100 * best['figures'][name]:.2f} %")
        if name == "equal_error_rate":
            low, high = (best["figures"][f"difference_{end}"] for end in ("low", "high"))
            chance = " It lies within nnaq's interval." if low <= value - float_rate <= high else ""
            chance += " It is below float's own rate." if value < float_rate else ""
    place = f"{row['peer']}, {row['model']} as {row['form']}, {row['scheme']}"
    return f"- {place}: {', '.join(parts)}. {reason(row)}{chance}\n"


def _refused(rows: list[dict]) -> str:
    """What peers could not do, peer by peer."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row["failure"]:
            found.setdefault(f"{row['peer']}, {row['model']} as {row['form']}", []).append(row["scheme"])
    told = [f"{place} ({', '.join(sorted(schemes))})" for place, schemes in sorted(found.items())]
    return f"Not to be had: {'; '.join(told)}.\n" if told else ""


def _pipeline(row: dict) -> tuple[str, ...]:
    figures = row["figures"]
    shares = [figures.get(f"agreement:{part}") for part in ("clean", "noisy")]
    told = [f"{100 * share:.2f} %" if share is not None else "" for share in shares]
    left = row["left_in_float"].split(" (")[0]
    head = row["peer"], row["model"], row["form"], row["scheme"], left
    return (*head, *told, _rate(figures))


def _rate(figures: dict) -> str:
    """An equal error rate with the interval of its distance from float's."""
    rate = figures.get("equal_error_rate")
    if rate is None:
        return ""
    ends = [100 * figures[f"difference_{end}"] for end in ("low", "high")]
    return f"{100 * rate:.2f} % ({ends[0]:+.2f} … {ends[1]:+.2f})"


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
    table = markdown_table(header, rows)
    return f"## Codebooks of peers\n\n{lead}\n\n{table}\n{_codebook_losses(done)}"


def _codebook_losses(done: list[dict]) -> str:
    """Where the model is better off with a peer's tables than with nnaq's of the same bits."""
    shared = "per_tensor, scale per channel"
    mine = {row["bits"]: row for row in done if row["peer"] == "nnaq" and row["granularity"] == shared}
    peers = [row for row in done if row["peer"] != "nnaq"]
    ahead = {id(row): _better(row, mine[row["bits"]]) for row in peers}
    told = [
        f"{row['peer']}, {row['granularity']}, {row['bits']} bits ({', '.join(ahead[id(row)])})"
        for row in sorted(peers, key=lambda r: (-r["bits"], r["granularity"], r["peer"]))
        if ahead[id(row)]
    ]
    pairs = [
        value < mine[row["bits"]]["weight_sqnr_db"][name]
        for row in peers
        for name, value in row["weight_sqnr_db"].items()
    ]
    return (
        f"Beside nnaq's {shared}: its weights are closer to float in {sum(pairs):,} of {len(pairs):,} pairs "
        "of a layer and a peer's row. Even so the model decides better, in what stands in brackets, with: "
        f"{'; '.join(told)}. Tables found without data make the whole error small and do not see which part "
        "of it the model feels (at 1 and 2 bits no table gives a model that works); what does see it are "
        "`weighted` and `feedback` of *Below 8 bits*.\n"
    )


def _better(row: dict, mine: dict) -> list[str]:
    """The accuracies in which a row is better than nnaq's."""
    theirs, ours = (one["figures"]["silero"] for one in (row, mine))
    found = [part for part in ("clean", "noisy") if theirs[f"agreement:{part}"] > ours[f"agreement:{part}"]]
    theirs, ours = (one["figures"]["voice"]["equal_error_rate"] for one in (row, mine))
    return [*found, *(["equal error rate"] if theirs is not None and theirs < ours else [])]


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
