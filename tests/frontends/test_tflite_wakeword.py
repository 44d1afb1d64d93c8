"""Real streaming wake-word models in int8: over 1,000 frames, the integers of tflite-micro.

The models come from the folder `make demo` fills (.demo/wakeword). Of okay_nabu the logits, the layer
before them and the scores are golden; the marked tests compare every tensor of all four models.
"""

import hashlib
import os
import secrets
import subprocess
from pathlib import Path

import numpy as np
import pytest
from frontends.tflite_files import GOLDEN, codes
from oracles.spectrogram import spectrogram
from oracles.vectors import load_vectors

from nnaq.frontends import load, tflite
from nnaq.interpret import Interpreter
from nnaq.ir.graph import Graph

ROOT = Path(__file__).parents[2]
MODELS = ("okay_nabu", "hey_jarvis", "hey_mycroft", "alexa")
SEED = int(os.environ.get("NNAQ_ORACLE_SEED", secrets.randbelow(2**31)))
STEPS = 1000


def model(name: str) -> Path:
    path = ROOT / ".demo" / "wakeword" / f"{name}.tflite"
    if not path.is_file():
        pytest.skip(f"no {path.name}: `make demo` fetches it")
    return path


def frames_of(seed: int) -> np.ndarray:
    return spectrogram(np.random.default_rng(seed), STEPS)


def played(
    path: Path, frames: np.ndarray, keep: dict[int, str], graph: Graph
) -> tuple[dict[int, list[np.ndarray]], list[np.ndarray]]:
    """The kept values by tensor and the scores, frame by frame, as int8."""
    interpreter = Interpreter(graph, keep=keep.values())
    kept: dict[int, list[np.ndarray]] = {index: [] for index in keep}
    scores = []
    for frame in frames:
        result = interpreter.step({graph.inputs[0].name: frame})
        for index, name in keep.items():
            kept[index].append(result.outputs[name] if name in result.outputs else result.values[name])
        scores.append(result.outputs[graph.outputs[0].name])
    return kept, scores


def last_layer(path: Path) -> tuple[int, int]:
    """The tensors before and behind the last fully connected layer."""
    nodes = [node for node in tflite.read(path).operators if node.op == "FULLY_CONNECTED"]
    assert nodes[-1].inputs[0] is not None
    return nodes[-1].inputs[0].index, nodes[-1].outputs[0].index


def test_golden_frames_of_okay_nabu():
    path = model("okay_nabu")
    header, (case,), constants = load_vectors(GOLDEN / "tflite__okay_nabu.npz")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == constants["model_sha256"].item()
    assert len(case["logits"]) == STEPS
    assert np.unique(case["logits"]).size > 64, "scores that never move would prove little"
    assert np.unique(case["penultimate"]).size > 128
    before, after = last_layer(path)
    imported, values = tflite.load_with_values(path)
    keep = {index: values[index] for index in (before, after)}
    kept, scores = played(path, frames_of(header["seed"]), keep, imported.graph)
    for found, wanted in (
        (kept[after], case["logits"]), (kept[before], case["penultimate"]), (scores, codes(case["scores"]))
    ):  # fmt: skip
        assert np.array_equal(np.stack(found), wanted)


def test_the_states_are_carried():
    """What a test of outputs would miss: the same frames again give other logits."""
    path = model("okay_nabu")
    imported, values = tflite.load_with_values(path)
    keep = {index: values[index] for index in last_layer(path)}
    frame = frames_of(3)[100]
    kept, _ = played(path, np.stack([frame] * 40), keep, imported.graph)
    assert len(imported.graph.states) == 6
    assert np.unique(np.stack(kept[last_layer(path)[1]])).size > 3


@pytest.mark.parametrize("name", MODELS)
def test_reference_kernels_give_the_same(name):
    graph, frames = load(model(name)).graph, frames_of(5)[200:203]
    fast, reference = Interpreter(graph), Interpreter(graph, "reference")
    for frame in frames:
        feeds = {graph.inputs[0].name: frame}
        results = [interpreter.step(feeds) for interpreter in (fast, reference)]
        for ours, theirs in (
            (results[0].outputs, results[1].outputs),
            (results[0].states, results[1].states),
        ):
            for key, array in theirs.items():
                assert np.array_equal(ours[key], array), key


@pytest.mark.oracle
@pytest.mark.parametrize("name", MODELS)
def test_every_tensor(name, tmp_path):
    """All that operators make, in 1,000 frames from a fresh seed."""
    path, python = model(name), ROOT / ".oracles" / "tflm" / "bin" / "python"
    if not python.exists():
        pytest.skip("no environment of the oracle 'tflm': run `make oracles`")
    script, out = ROOT / "tests" / "oracles" / "tflm_wakeword.py", tmp_path / "out.npz"
    subprocess.run([str(python), str(script), str(path), str(SEED), str(out)], check=True)
    imported, names = tflite.load_with_values(path)
    values = 0
    with np.load(out) as theirs:
        indices = [int(key.removeprefix("tensor_")) for key in theirs.files if key != "scores"]
        keep = {index: names[index] for index in indices}
        kept, scores = played(path, frames_of(SEED), keep, imported.graph)
        for index, found in kept.items():
            wanted = codes(theirs[f"tensor_{index}"])
            assert np.array_equal(np.stack(found), wanted), (
                f"tensor {index}; NNAQ_ORACLE_SEED={SEED} repeats it"
            )
            values += wanted.size
        assert np.array_equal(np.stack(scores), codes(theirs["scores"]))
        assert np.unique(theirs[f"tensor_{last_layer(path)[1]}"]).size > 40
    assert values > 9_000_000
    print(f"{name}: {len(indices)} tensors, {values} values, 0 mismatches")
