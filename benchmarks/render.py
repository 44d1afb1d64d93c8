"""benchmarks/README.md from the results: `python benchmarks/render.py`."""

import json
import sys
from pathlib import Path

from codebook_tables import below_8_bits, finder_speed, packed_speed, searched
from kernel_tables import kernel_speed
from peer_tables import palettes_of_peers, pipelines, speakers, weight_codecs
from recogniser_tables import recogniser_steps
from rendering import circumstances, markdown_table, time_of
from sub8_tables import all_speakers
from training_tables import awareness, claims, promise, schemes, training_step, transducer

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PAGE = HERE / "README.md"
GOAL_OF_MEMORY = 3  # times the file, of a lowering
LEAD = """<!-- Written by benchmarks/render.py from results/*.json; run `make bench` instead of editing. -->
# Benchmarks

Every speed is a ratio to a named peer that took turns with nnaq in the same run on the same machine, one
thread each: **peer's time / nnaq's time, so higher is better for nnaq**, the median of all turns. Times are
medians too; only the ratio travels to other machines. ONNX Runtime is measured in a process of its own.
"""


def detector_speed(records: list[dict]) -> str:
    """The whole model as a stream."""
    rows = [
        (r["work"], r["peer"], f"{r['ratio']:.2f}", f"{r['real_time']:.0f} x", time_of(r["seconds"]))
        for r in records
        if r["peer"]
    ]
    alone = [
        f"{r['work']}: {time_of(r['seconds'])} with compiled kernels.\n" for r in records if not r["peer"]
    ]
    table = markdown_table(("work", "peer", "ratio", "real time", "time of nnaq"), rows)
    lead = "The lowered model in the simulator. `real time`: seconds of audio per second of computing."
    return f"## Voice detector\n\n{lead}\n\n{table}\n{''.join(alone)}\n{circumstances(records[0])}"


def start_up(records: list[dict]) -> str:
    """What a command takes from start to end."""
    rows = [
        (
            r["work"],
            f"{r['seconds']:g} s",
            f"{r['processor']:g} s",
            f"{r['target']:g} s" if r["target"] else "",
        )
        for r in records
    ]
    table = markdown_table(("command", "wall", "processor", "target, wall"), rows)
    lead = (
        "`cold`: `nnaq lower` of the voice detector with nothing compiled, once; `warm`: with the kernels of "
        "the cold run; `help`: `nnaq --help`; `words`: what `make demo` does until words are there, `demo`: "
        "all of it, in a cache of its own. Wall seconds hold what else ran on the machine, processor seconds "
        "do not."
    )
    return f"## From start to end\n\n{lead}\n\n{table}\n{circumstances(records[-1])}"


def lowering_memory(result: dict) -> str:
    """What `nnaq lower` takes of memory beside its file."""
    rows = [
        (
            f"{r['parameters'] / 1e6:.0f} M",
            f"{r['file_bytes'] / 1e6:.0f} MB",
            f"{r['peak_bytes'] / 1e6:,.0f} MB",
            f"{r['ratio']:.1f}",
            f"{r['ratio_without_libraries']:.1f}",
        )
        for r in result["rows"]
    ]
    table = markdown_table(("parameters", "file", "peak", "peak / file", "without libraries"), rows)
    verdict = "missed" if any(r["ratio"] >= GOAL_OF_MEMORY for r in result["rows"]) else "met"
    lead = (
        "The greatest resident bytes of `nnaq lower` over a float32 ONNX file of square layers, and without "
        f"the {result['library_bytes'] / 1e6:.0f} MB that libraries take. The goal is {GOAL_OF_MEMORY}: "
        f"**{verdict}**."
    )
    return f"## Memory of a lowering\n\n{lead}\n\n{table}\n{circumstances(result)}"


def two_threads(result: dict) -> str:
    """What a second thread gains."""
    rows = [
        (
            r["work"], r["library"], time_of(r["one_thread_seconds"]), time_of(r["two_threads_seconds"]),
            f"{r['gain']:.2f}",
        )
        for r in result["rows"]
    ]  # fmt: skip
    table = markdown_table(("rows x inputs x outputs", "library", "one thread", "two", "gain"), rows)
    lead = (
        "A layer of int8 codes with `NNAQ_THREADS=2`, and the same product in float32. Wall times, each "
        f"library in processes of its own; load of the machine before: {result['load']:.1f}. No targets."
    )
    return f"## Two threads\n\n{lead}\n\n{table}\n{circumstances(result)}"


def detector_accuracy(result: dict) -> str:
    """The lowered model on recordings nothing was chosen from."""
    rows = []
    for condition, metrics in result["rows"].items():
        auc, agreement = metrics["auc"], metrics["agreement"]
        figures = (agreement["integer"], auc["real"], auc["integer"])
        rows.append(
            (condition, *(f"{figure:.4f}" for figure in figures), f"{metrics['frames']['integer']:,}")
        )
    table = markdown_table(("condition", "agreement", "AUC float", "AUC integer", "frames"), rows)
    parts = {"first_five_minutes": "first", "last_five_minutes": "last"}
    drift = " and ".join(f"{result['drift'][key]:.4f} in the {words}" for key, words in parts.items())
    raised = ", ".join(f"`{one['value']}`" for one in result["raises"]) or "none"
    mixed = "all clean" if result["clean"] else "half of them mixed with the first half of the noise"
    return (
        f"## Accuracy of the lowered voice detector\n\nCalibrated on {result['count']} recordings of "
        f"`{result['calibrate']}` (seed {result['seed']}), {mixed}; judged on `{result['evaluate']}`, clean "
        f"and with the second half of `{result['noise']}`. `agreement` is the share of frames on which both "
        "models decide alike; AUC judges both by the energy of the clean speech, a yardstick for comparing "
        f"the two, not a score of the detector.\n\n{table}\nOne hour without a reset: agreement {drift} "
        f"five minutes. Values the automatic choice raised to 16 bits: {raised}. How to repeat it is told at "
        "the top of `benchmarks/silero_accuracy.py`.\n"
    )


SECTIONS = {
    "silero_speed": detector_speed,
    "kernels": kernel_speed,
    "packed": packed_speed,
    "recogniser_steps": recogniser_steps,
    "codebooks": finder_speed,
    "silero_accuracy": detector_accuracy,
    "speaker": speakers,
    "sub8": below_8_bits,
    "sub8_speakers": all_speakers,
    "search_accuracy": searched,
    "peers": pipelines,
    "peers_codebooks": palettes_of_peers,
    "storage": weight_codecs,
    "training_promise": promise,
    "two_threads": two_threads,
    "start_up": start_up,
    "lowering_memory": lowering_memory,
    "training_step": training_step,
    "schemes": schemes,
    "awareness": awareness,
    "claims": claims,
    "transducer": transducer,
}


def render() -> str:
    """The page; results that are not there are left out."""
    found = {name: RESULTS / f"{name}.json" for name in SECTIONS}
    parts = [SECTIONS[name](json.loads(path.read_text())) for name, path in found.items() if path.exists()]
    end = "Conformance with outside runtimes is in [docs/conformance.md](../docs/conformance.md).\n"
    return "\n".join([LEAD, *filter(None, parts), end])


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if PAGE.read_text() == render() else f"{PAGE} is stale: run `python benchmarks/render.py`")
    PAGE.write_text(render())
