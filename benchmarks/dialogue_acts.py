"""Dialogue acts with and without prosody, float and integers, on the same test utterances.

    python benchmarks/dialogue_acts.py FOLDER... [--arm none both] [--seeds 1] [--epochs 15]

Each FOLDER is one that `nnaq.tasks.act_sets` takes; its row has its name. Every arm is trained by the
configuration that ships, with the parameters of `both`; a seed draws its first weights and the order of
batches. Then the float model and its integers (int8, on --target) are judged on test.tsv. McNemar's exact
test holds every arm against `none`, seed by seed. Writes results/dialogue_acts.json, of which rows that were
not asked for stay as they are.
"""

import argparse
import json
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

import nnaq
from nnaq.interpret import run
from nnaq.models.dialogue_acts import ARMS
from nnaq.tasks.act_sets import read_acts
from nnaq.tasks.dialogue_acts import (
    DialogueActsTask,
    Example,
    inputs_of,
    macro_f1,
    make_module,
    read_examples,
)
from nnaq.tasks.intervals import mcnemar
from nnaq.tasks.log_mel import LogMel
from nnaq.tasks.prosody import Prosody
from nnaq.train.config import load_config
from nnaq.train.loop import train

RESULT = Path(__file__).parent / "results" / "dialogue_acts.json"
# those of nnaq.tasks.dialogue_acts.make_task
HIDDEN, DROPOUT, BATCH, CLOSING, FORGOTTEN = 64, 0.2, 16, 0.02, 0.0


def main(given: argparse.Namespace) -> None:
    """Train and judge all that was asked for, and write the file after every model."""
    torch.set_num_threads(1)
    for folder in given.folders:
        sets, prosody = read_acts(folder), Prosody()
        examples = read_examples(sets, LogMel(stack=prosody.stack, stride=prosody.stack), prosody)
        for seed in range(given.seeds):
            for arm in given.arm:
                row = judged(folder.name, arm, seed, sets.acts, examples, given)
                keep(row)
                print(
                    {key: row[key] for key in ("data", "arm", "seed", "float", "integer", "gates")},
                    flush=True,
                )


def judged(
    data: str,
    arm: Any,
    seed: int,
    acts: Sequence[str],
    examples: tuple[Sequence[Example], Sequence[Example], Sequence[Example]],
    given: argparse.Namespace,
) -> dict[str, Any]:
    """One training: figures of the float model and of its integers on the test set."""
    module = make_module(examples[0][0], len(acts), arm, HIDDEN, DROPOUT, seed)
    task = DialogueActsTask(module, acts, examples, BATCH, CLOSING, FORGOTTEN)
    changes = [f"training.epochs={given.epochs}", f"training.seed={seed}", 'data="."']
    since = time.process_time()
    with TemporaryDirectory() as folder:
        place = train(task, module, load_config("dialogue-acts", changes).training, Path(folder))
    seconds = time.process_time() - since
    module.eval()
    real, gates = task.scores(module, task.test)
    integer = integer_scores(task, given.target)
    truth = np.array([example.act for example in task.test])
    return {
        "data": data,
        "arm": arm,
        "seed": seed,
        "epochs": place.epoch,
        "parameters": sum(p.numel() for p in module.parameters()),
        "seconds": round(seconds, 1),
        "counts": [len(part) for part in examples],
        "acts": list(acts),
        "dev": place.figures,
        "gates": gates,
        "float": figures(truth, real),
        "integer": figures(truth, integer),
        "agreement": float((real.argmax(1) == integer.argmax(1)).mean()),
        "target": given.target,
        "right": "".join("01"[int(one)] for one in real.argmax(1) == truth),
        "right_integer": "".join("01"[int(one)] for one in integer.argmax(1) == truth),
    }


def integer_scores(task: DialogueActsTask, target: str) -> np.ndarray:
    """Scores of the integers on the test set, float32 [utterances, acts]: codes times their scale."""
    calibration = task.calibration()
    lowering = nnaq.lower(
        task.module, task.example_inputs, calibration, calibration[:4], target=target, options=task.options
    )
    graph = lowering.crossing.integer
    found = [run(graph, inputs_of(example)) for example in task.test]
    return np.stack([np.asarray(one.outputs[graph.outputs[0].name], np.float32)[0] for one in found])


def figures(truth: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    found = scores.argmax(axis=1)
    return {"accuracy": float((found == truth).mean()), "macro_f1": macro_f1(truth, found, scores.shape[1])}


def keep(row: dict[str, Any]) -> None:
    """Put a row into the file, in the place of an earlier one of its kind; then test arms against `none`."""
    found = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {"rows": []}
    name = [row[key] for key in ("data", "arm", "seed")]
    rows = [one for one in found["rows"] if [one[key] for key in ("data", "arm", "seed")] != name]
    rows = sorted([*rows, row], key=lambda one: (one["data"], ARMS.index(one["arm"]), one["seed"]))
    for one in rows:
        plain = [
            r for r in rows if r["arm"] == "none" and (r["data"], r["seed"]) == (one["data"], one["seed"])
        ]
        if plain and one["arm"] != "none":
            pair = (np.array([*r["right"]]) == "1" for r in (plain[0], one))
            one["mcnemar_p"] = mcnemar(*pair)
    versions = {name: version(name) for name in ("nnaq", "torch", "numpy", "numba")}
    made = {"command": "python benchmarks/dialogue_acts.py FOLDER...", "versions": versions, "rows": rows}
    RESULT.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--arm", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--target", default="edge8")
    main(parser.parse_args())
