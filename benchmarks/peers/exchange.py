"""The neutral ground between nnaq and its peers: arrays and one row of JSON per attempt.

Every peer lives in an environment of its own, so this file needs NumPy only. The folder of the exchange
(`.peers/exchange`) holds

    MODEL.npz              weights, calibration and evaluation inputs, float outputs (`export_data.py`)
    MODEL-FORM.onnx        the float model for peers that read ONNX (`-17`: of operator set 17)
    rows/PEER/MODEL-FORM-SCHEME.json    what a peer did, what it left in float, or why it failed
    rows/PEER/MODEL-FORM-SCHEME.npz     its outputs, one array per evaluation set

MODEL is `silero`, `silero_core` (without its front end: peers get the magnitudes of the spectrum, in float)
or `voice`. FORM is `sequence` (the LSTM is one node, a recording is one call) or `step` (the LSTM is written
out as linear layers, sigmoid, tanh and products; one call is one time step of many recordings, states are
inputs and results). Recordings start from zero states.
"""

import json
import time
import traceback
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np

PLACE = Path(__file__).resolve().parents[2] / ".peers" / "exchange"
SCHEMES = ("W8A8", "W4A8", "W8A16")
BITS = (6, 4, 3, 2, 1)
MODELS = ("silero", "silero_core", "voice")
SETS = {"silero": ("clean", "noisy"), "silero_core": ("clean", "noisy"), "voice": ("test",)}
LAYERS = {"silero": 1, "silero_core": 1, "voice": 3}  # LSTM layers
HIDDEN = {"silero": 128, "silero_core": 128, "voice": 256}

Arrays = dict[str, np.ndarray]
Model = Callable[..., tuple[np.ndarray, ...]]


def load(name: str) -> Arrays:
    """All arrays of one npz of the exchange."""
    with np.load(PLACE / f"{name}.npz") as file:
        return dict(file)


def weights_of(data: Arrays) -> Arrays:
    """The float weights by name."""
    return {name.removeprefix("weight:"): a for name, a in data.items() if name.startswith("weight:")}


def recordings(data: Arrays, which: str) -> list[np.ndarray]:
    """The recordings of a set: [T, ...] each; they lie one after the other in the file."""
    ends = np.cumsum(data[f"{which}:lengths"])
    return np.split(data[f"{which}:inputs"], ends[:-1])


def zero_states(model: str, count: int) -> list[np.ndarray]:
    """h and c of every LSTM layer, [count, H] zeros: h0, c0, h1, c1, …"""
    return [np.zeros((count, HIDDEN[model]), np.float32) for _ in range(2 * LAYERS[model])]


def step_batches(data: Arrays, size: int = 64) -> Iterator[tuple[np.ndarray, ...]]:
    """Calibration of the step form: (x, h0, c0, …) of `size` moments each, drawn from float runs."""
    names = sorted(name for name in data if name.startswith("step:"))
    for at in range(0, len(data[names[0]]), size):
        yield tuple(data[name][at : at + size] for name in names)


def run_sequence(model: Model, data: Arrays, which: str) -> np.ndarray:
    """Outputs of the sequence form over a set, joined."""
    return np.concatenate([np.asarray(model(one)[0]) for one in recordings(data, which)])


def run_steps(model: Model, name: str, data: Arrays, which: str) -> np.ndarray:
    """Outputs of the step form over a set: all recordings advance together, the shorter ones end first.

    The voice encoder's recordings are partial utterances of one length; its output is that of the last step.
    """
    series = recordings(data, which)
    order = np.argsort([-len(one) for one in series], kind="stable")
    made: list[list[np.ndarray]] = [[] for _ in series]
    states = zero_states(name, len(series))
    for moment in range(max(map(len, series))):
        alive = [i for i in order if len(series[i]) > moment]
        states = [state[: len(alive)] for state in states]
        output, *states = model(np.stack([series[i][moment] for i in alive]), *states)
        for place, i in enumerate(alive):
            made[i].append(output[place])
    if name == "voice":
        return np.stack([outputs[-1] for outputs in made])
    return np.concatenate([np.asarray(outputs) for outputs in made])


def evaluate(model: Model, name: str, form: str, data: Arrays) -> Arrays:
    """Outputs over every evaluation set."""
    if form == "sequence" and name == "voice":
        return {which: model(np.stack(recordings(data, which)))[0] for which in SETS[name]}
    if form == "sequence":
        return {which: run_sequence(model, data, which) for which in SETS[name]}
    return {which: run_steps(model, name, data, which) for which in SETS[name]}


def callable_of_session(file: Path) -> Model:
    """A model file in ONNX Runtime, on one thread, as a function of arrays."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    return lambda *arrays: tuple(session.run(None, dict(zip(names, arrays, strict=True))))


def attempt(
    peer: str, packages: list[str], model: str, form: str, scheme: str, work: Callable[[], tuple[Arrays, str]]
) -> None:
    """Do `work` and put down its outputs and what it left in float, or the reason of its failure."""
    folder = PLACE / "rows" / peer
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{model}-{form}-{scheme}"
    for ending in ("npz", "json"):
        (folder / f"{stem}.{ending}").unlink(missing_ok=True)
    row = {"peer": peer, "versions": {name: version(name) for name in packages}}
    row |= {"model": model, "form": form, "scheme": scheme}
    start = time.perf_counter()
    try:
        outputs, left_in_float = work()
        np.savez(folder / f"{stem}.npz", **outputs)
        row |= {"left_in_float": left_in_float, "failure": None}
    except Exception as error:
        traceback.print_exc()
        row |= {"left_in_float": None, "failure": reason(error)}
    row["seconds"] = round(time.perf_counter() - start, 1)
    (folder / f"{stem}.json").write_text(json.dumps(row, indent=1) + "\n")
    print(json.dumps(row), flush=True)


def reason(error: Exception) -> str:
    """The first line of an error that says something, at most 300 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
