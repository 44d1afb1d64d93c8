"""The section of benchmarks/README.md about the steps of a recogniser."""

from rendering import circumstances, markdown_table, time_of


def recogniser_steps(result: dict) -> str:
    """One frame and one answer at every width, and the bytes of the encoder."""
    rows = [
        (
            f"{row['bits']} bits, " + ("plain int8" if row["bits"] == 8 else "palettes"),
            *(cell for what in ("step", "answer") for cell in _times(row[what])),
            f"{row['operand_bytes'] / 1e6:.1f} MB",
            f"{row['resident_bytes'] / 1e6:.0f} MB",
        )
        for row in result["rows"]
    ]
    columns = (
        "weights", "a step", "low … high", "int8 / this", "an answer", "low … high", "int8 / this",
        "operands", "resident",
    )  # fmt: skip
    held = " and ".join(f"{size / 2**20:.3g} MiB of {level}" for level, size in result["caches"].items())
    lead = (
        "The RNN-T of paper size (52 M parameters at random, beyond L2) on the integer kernels; int8 is the "
        "peer, every width in a process of its own, in turns. `a step`: a frame of the encoder, 60 ms of "
        "sound; `an answer`: from the last sound to the result, with features, encoder, two steps of the "
        "joint and one of the predictor. Wall clock; `low … high` are the 10th and 90th percentile of turns. "
        "The ratio is that of the processor's seconds turn by turn, above 1 where fewer bits are quicker. "
        "`operands`: constants as the encoder's kernels are given them; `resident`: what the process grew "
        "by, which holds the graph's plain codes too; it was taken before reading a file left less "
        "behind. The machine was busy with other work (load before: "
        f"{result['load']:.1f} on 2 cores). Caches as one core sees them: {held}."
    )
    return f"## Steps of a recogniser\n\n{lead}\n\n{markdown_table(columns, rows)}\n{circumstances(result)}"


def _times(told: dict) -> tuple[str, str, str]:
    spread = f"{time_of(told['low'])} … {time_of(told['high'])}"
    ratio = f"{told['ratio']:.2f} ({told['ratio_low']:.2f} … {told['ratio_high']:.2f})"
    return time_of(told["seconds"]), spread, ratio
