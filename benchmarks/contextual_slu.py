"""Understanding with and without context, float and integers, on the same test dialogues.

    python benchmarks/contextual_slu.py FOLDER [--arm none attentive] [--seeds 3] [--epochs 30]

FOLDER is one that nnaq.tasks.simulated_dialogues takes, such as sim-M. Every arm is trained by the
configuration that ships, with the parameters of `attentive`; a seed draws first weights, the order of batches
and how words are heard. Each is judged on test.json, whose words are heard the same way for all:

    found       earlier user words are those the model found itself: what counts
    true        earlier user words as they were said: an oracle
    shuffled    every turn with the context of another dialogue's turn of the same number
    first       of found, first turns alone, which have no context; later: all other turns
    integer     found, by the integers of the lowered model (int8, on --target)

    python benchmarks/contextual_slu.py FOLDER --latency

What a turn and a word of every arm take on --target, by the simulator. Weights are as they are drawn: cycles
do not depend on them.

Writes results/contextual_slu.json, of which rows that were not asked for stay as they are.
"""

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

import nnaq
from nnaq.ir.graph import Graph
from nnaq.models.context import ARMS
from nnaq.passes import MakeStreaming
from nnaq.simulate import simulate
from nnaq.targets import load_target
from nnaq.tasks.contextual_slu import ContextualSluTask, make_task
from nnaq.tasks.conversation import Answer, Previous, figures, judged, understood_dialogues
from nnaq.tasks.lexicon import Understood, truth_of
from nnaq.tasks.understander_parts import integer_answer, understander_parts
from nnaq.train.config import load_config
from nnaq.train.loop import train

RESULT = Path(__file__).parent / "results" / "contextual_slu.json"


def main(given: argparse.Namespace) -> None:
    """Train and judge all that was asked for, and write the file after every model."""
    torch.set_num_threads(1)
    if given.latency:
        others = [row for row in read()["latency"] if row["arm"] not in given.arm]
        rows = [latency(given.folder, arm, given.target) for arm in given.arm]
        write({**read(), "latency": sorted([*others, *rows], key=lambda row: ARMS.index(row["arm"]))})
        return
    for seed in range(given.seeds):
        for arm in given.arm:
            row = measured(given.folder, arm, seed, given.epochs, given.target)
            keep(row)
            print({key: row[key] for key in ("arm", "seed", "found", "integer", "seconds")}, flush=True)


def measured(folder: Path, arm: Any, seed: int, epochs: int, target: str) -> dict[str, Any]:
    """One training: figures of the float model and of its integers on the test set."""
    task = make_task(folder, seed, context=arm)
    changes = [f"training.epochs={epochs}", f"training.seed={seed}", 'data="."']
    since = time.process_time()
    with TemporaryDirectory() as place:
        trained = train(task, task.module, load_config("contextual-slu", changes).training, Path(place))
    seconds = time.process_time() - since
    task.module.eval()
    real, dialogues = task.answer(task.module), task.sets.test
    found = of_test(task, real)
    return {
        "data": folder.name,
        "arm": arm,
        "seed": seed,
        "epochs": trained.epoch,
        "parameters": sum(p.numel() for p in task.module.parameters()),
        "seconds": round(seconds, 1),
        "dialogues": [len(part) for part in (task.sets.train, task.sets.development, dialogues)],
        "turns": sum(map(len, dialogues)),
        "words": sum(len(turn.words) for dialogue in dialogues for turn in dialogue),
        "dev": trained.figures,
        "found": judged(dialogues, found),
        "true": judged(dialogues, of_test(task, real, "true")),
        "shuffled": judged(dialogues, of_test(task, real, shuffled=True)),
        "first": of_turns(task, found, first=True),
        "later": of_turns(task, found, first=False),
        "integer": judged(dialogues, of_test(task, integer_answer(lowered(task, target)))),
        "target": target,
    }


def of_test(
    task: ContextualSluTask, answer: Answer, previous: Previous = "found", shuffled: bool = False
) -> list[list[Understood]]:
    """What is found in the test set."""
    return understood_dialogues(task.lexicon, answer, task.sets.test, task.heard("test"), previous, shuffled)


def of_turns(task: ContextualSluTask, found: list[list[Understood]], first: bool) -> dict[str, float]:
    """Figures of first turns alone, or of all others."""
    own = slice(0, 1) if first else slice(1, None)
    truths = [truth_of(turn) for dialogue in task.sets.test for turn in dialogue[own]]
    return figures(truths, [one for turns in found for one in turns[own]])


def lowered(task: ContextualSluTask, target: str) -> Graph:
    """The integers of a module, over whole utterances."""
    calibration = task.calibration()
    lowering = nnaq.lower(
        task.module, task.example_inputs, calibration, calibration[:4], nnaq.load_recipe("understander"),
        target, task.options,
    )  # fmt: skip
    return lowering.crossing.integer


def latency(folder: Path, arm: Any, target: str) -> dict[str, Any]:
    """Cycles and microseconds of a turn's context and of a word, and what both keep in memory."""
    task = make_task(folder, context=arm)
    parts = understander_parts(MakeStreaming().run(lowered(task, target)))
    found = {
        name: simulate(graph, load_target(target))
        for name, graph in (("turn", parts.context), ("word", parts.words))
        if graph is not None
    }
    row: dict[str, Any] = {"data": folder.name, "arm": arm, "target": target}
    row["parameters"] = sum(p.numel() for p in task.module.parameters())
    for name, simulation in found.items():
        row[f"{name}_cycles"] = simulation.cycles_per_step
        row[f"{name}_microseconds"] = round(simulation.microseconds_per_step, 2)
    return row


def keep(row: dict[str, Any]) -> None:
    """Put a row into the file, in the place of an earlier one of its kind."""
    found = read()
    name = [row[key] for key in ("data", "arm", "seed")]
    rows = [one for one in found["rows"] if [one[key] for key in ("data", "arm", "seed")] != name]
    rows = sorted([*rows, row], key=lambda one: (one["data"], ARMS.index(one["arm"]), one["seed"]))
    write({**found, "rows": rows})


def read() -> dict[str, Any]:
    """What the file holds."""
    empty: dict[str, Any] = {"rows": [], "latency": []}
    return json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else empty


def write(found: dict[str, Any]) -> None:
    """The file anew, with the versions it was made by."""
    versions = {name: version(name) for name in ("nnaq", "torch", "numpy", "numba")}
    made = {**found, "command": "python benchmarks/contextual_slu.py FOLDER", "versions": versions}
    RESULT.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--arm", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--latency", action="store_true", help="simulate, train nothing")
    parser.add_argument("--target", default="edge8-sub8")
    main(parser.parse_args())
