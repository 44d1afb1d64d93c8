"""The page of the latency model's deviations, from benchmarks/results."""

import json
from statistics import median
from textwrap import dedent
from typing import Any

from pages.markdown import ROOT, heading, markdown_table

RESULTS = ROOT / "benchmarks" / "results"
METRICS = {
    "npu_cycles": "Cycles of the array",
    "total_cycles": "Cycles in all",
    "sram_bytes": "Peak of the SRAM",
    "sram_bytes_for_size": "Peak of the SRAM, Vela asked for size",
    "weight_bytes": "Bytes of weights",
}
KINDS = {
    "deep": "products of K >= 256 make 90 % of the MACs",
    "shallow": "all others: what Vela adds for starting and ending blocks weighs more than the model knows",
    "unrolled": "an LSTM over several frames: Vela runs the input's product frame by frame and decodes its "
    "weights each time, nnaq once over all frames. Two schedules, not two estimates of one",
}
WORDS = {
    "npu_cycles": "The array, the lanes and the weight decoder, memories left out; Vela's `cycles_npu`.",
    "total_cycles": "Every operator as long as the slowest of array, lanes and memories; `cycles_total`.",
    "sram_bytes": "Activations and states by nnaq, `sram_memory_used` by Vela's greedy allocator under its "
    "default, which also buffers weights there. No plan is below `live`, the most that is alive at once.",
    "sram_bytes_for_size": "The same plan of nnaq beside Vela's under `--optimise Size`, which runs "
    "neighbouring layers row by row.",
    "weight_bytes": "nnaq counts the entropy of the codes, Vela's column is `mlw_codec` on the same codes; "
    "`raw` is a byte for each.",
}
BOUNDS = {
    "sram_bytes": ("live", "max_live_bytes"),
    "sram_bytes_for_size": ("live", "max_live_bytes"),
    "weight_bytes": ("raw", "raw_weight_bytes"),
}


def latency_model() -> str:
    """Every row of both comparisons, good and bad."""
    goldens = read("vela.json")
    lead = dedent("""\
        What the cost model says, beside what others say of the same work. Every row that was measured
        stands here. `deviation` is nnaq's figure over the other one, less 1.
        """)
    return "".join((heading("How far the latency model is off", lead), beside_vela(goldens), on_this_cpu()))


def read(name: str) -> dict[str, Any]:
    return dict(json.loads((RESULTS / name).read_text(encoding="utf-8")))


def beside_vela(goldens: dict[str, Any]) -> str:
    """The first half: another compiler's estimate."""
    result, version = read("latency_model.json"), goldens["versions"]["ethos-u-vela"]
    machines = "\n".join(
        f"- `{name}` is `{one['system_config']}` with `{one['memory_mode']}`"
        for name, one in goldens["configurations"].items()
    )
    lead = dedent(f"""\

        ## Beside Vela {version}

        Vela is a compiler for Ethos-U chips and prints what it estimates: a deviation from it is one between
        two estimates, not an error against hardware. The networks are int8 TFLite files that a script builds
        from a seed; both read the same bytes. The target files say which of their figures comes from where;
        nothing is fitted to the networks. nnaq's side streams all weights from DRAM, keeps look-up tables
        beside the lanes, and takes the importer's transposes of images for views, as a chip that keeps one
        layout does.

        `python benchmarks/latency_model.py` makes the rows again from the committed reports, and
        `python benchmarks/latency_model.py PYTHON_WITH_VELA` the reports as well.

        """)
    parts = [lead, machines, "\n", "\n", classes(result), "\n"]
    parts += [metric_table(result["rows"], metric) for metric in METRICS]
    return "".join(parts)


def classes(result: dict[str, Any]) -> str:
    """Median and worst deviation of cycles by class, and the bands that tests hold."""
    rows = []
    for kind, words in KINDS.items():
        cells = [f"{part:.0%}" for part in result["bands"][kind]]
        for metric in ("npu_cycles", "total_cycles"):
            found = deviations(result["rows"], metric, kind)
            cells += [f"{median(found):.1%}", f"{max(found):.1%}"]
        band = f"{cells[0]} / {cells[1]}"
        rows.append((f"`{kind}`", words, band, f"{cells[2]} / {cells[3]}", f"{cells[4]} / {cells[5]}"))
    columns = ("class", "networks", "band held", "array: median / worst", "in all: median / worst")
    return markdown_table(columns, rows)


def deviations(rows: list[dict[str, Any]], metric: str, kind: str) -> list[float]:
    return [abs(row["deviation"]) for row in rows if (row["metric"], row["kind"]) == (metric, kind)]


def metric_table(rows: list[dict[str, Any]], metric: str) -> str:
    """Every network on every target."""
    name, bound = BOUNDS.get(metric, ("", ""))
    own = [row for row in rows if row["metric"] == metric]
    lines = []
    for row in own:
        cells = [row["network"], f"`{row['target']}`", row["kind"], f"{row['ours']:,}", f"{row['theirs']:,}"]
        lines.append((*cells, f"{row['deviation']:+.1%}", *([f"{row[bound]:,}"] if bound else [])))
    columns = ("network", "target", "class", "nnaq", "Vela", "deviation", *([name] if bound else []))
    return f"\n### {METRICS[metric]}\n\n{WORDS[metric]}\n\n{markdown_table(columns, lines)}"


def on_this_cpu() -> str:
    """The second half: real time on the one machine at hand."""
    result = read("latency_model_host.json")
    predicted = [abs(row["deviation"]) for row in result["rows"] if row["half"] == "predicted"]
    busy = " and ".join(f"{load:g}" for load in result["load"])
    lead = dedent(f"""\

        ## Beside a real CPU

        The one piece of silicon at hand runs nnaq's own kernels: {result["cpu"]}, one thread. `host.toml` is
        fitted on single kernels; other sizes, steps of streams and whole encoders are predicted, nothing of
        them was fitted. Predicted half: **median error {median(predicted):.0%}, worst
        {max(predicted):.0%}**. The machine's load was {busy} at the start and the end.
        `{result["command"]}` measures and fits again. The model has one rate at which weights are read; an
        encoder whose weights outgrow a core's own cache waits longer than it says. Kernels are fitted as
        Python calls them, one by one; a stream's compiled plan pays less per node, so that a step of many
        small nodes takes less than it says.
        """)
    return lead + "".join(half_table(result["rows"], half) for half in ("predicted", "fitted"))


def half_table(rows: list[dict[str, Any]], half: str) -> str:
    lines = [
        (
            row["work"],
            *(f"{1e6 * row[key]:,.1f}" for key in ("predicted", "measured")),
            f"{row['deviation']:+.0%}",
        )
        for row in rows
        if row["half"] == half
    ]
    columns = ("work", "told, us", "measured, us", "deviation")
    return f"\n### {half.capitalize()}\n\n{markdown_table(columns, lines)}"
