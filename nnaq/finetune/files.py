"""The folder of a tuned model: what `nnaq lower` writes, but what only a float model could tell."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

from nnaq.artifact import read_golden, write_golden
from nnaq.codebooks.storage import storage_of_graph
from nnaq.crossing import Reporter
from nnaq.export.check import file_equals_simulator
from nnaq.export.onnx import export_model
from nnaq.finetune.ready import Ready
from nnaq.finetune.settings import Finetuned
from nnaq.interpret import run
from nnaq.ir.graph import Graph
from nnaq.report import Check, Latency, Memory, Report
from nnaq.simulate import Simulation, chrome_trace, simulate
from nnaq.tasks.framing import frame_seconds
from nnaq.tasks.metrics import Figure


def write_files(folder: Path, ready: Ready, tuned: Graph, found: Finetuned, reporter: Reporter) -> None:
    """The files of a lowering, as far as there is no float model to compare with."""
    old = ready.source.path
    simulation, exported = simulate(tuned, ready.target), export_model(tuned)
    inputs, _ = read_golden(old / "golden.npz", tuned)
    reporter.say("checking model.onnx against the simulator")
    check = Check(*file_equals_simulator(exported, tuned, inputs))
    (folder / "model.onnx").write_bytes(exported.SerializeToString(deterministic=True))
    (folder / "plan.json").write_text(json.dumps(simulation.plan.to_json(), indent=1) + "\n")
    (folder / "trace.json").write_text(json.dumps(chrome_trace(simulation)) + "\n")
    codes = [v for node in tuned.nodes for v in node.outputs if tuned.types[v].quant is not None]
    write_golden(folder / "golden.npz", tuned, inputs, run(tuned, inputs, keep=codes))
    shutil.copyfile(old / "recipe.toml", folder / "recipe.toml")
    _report(ready, tuned, found, simulation, check).write(folder, simulation)
    (folder / "finetune.json").write_text(json.dumps(found.to_json(), indent=1) + "\n")


def _report(ready: Ready, tuned: Graph, found: Finetuned, simulation: Simulation, check: Check) -> Report:
    """The report of what was tuned, with the tasks' accuracy; errors against the float model are gone."""
    report, recipe, plan = ready.source.report, ready.source.recipe, simulation.plan
    assert report is not None
    assert recipe is not None
    accuracy = {f"accuracy:{name}": Figure(None, one["accuracy"], "1") for name, one in found.after.items()}
    note = "weights were tuned after lowering, by forward passes; recipe.toml makes the untuned model"
    return replace(
        report,
        accuracy=accuracy,
        layers=[replace(layer, sqnr_db=None, added_db=None, exact=False) for layer in report.layers],
        latency=Latency(**simulation.latency(frame_seconds(recipe))),
        memory=Memory(plan.weight_bytes, plan.table_bytes, plan.state_bytes, plan.sram_peak_bytes),
        checks={"file_equals_simulator": check},
        notes=(*(n for n in report.notes if n != note), note),
        saturations={},
        storage=storage_of_graph(tuned),
    )
