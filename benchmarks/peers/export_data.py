"""Write what every peer reads: the same weights, calibration data, evaluation data and float outputs.

    .venv/bin/python benchmarks/peers/export_data.py --detector .demo/silero_vad_16k_sequence.onnx \
        --encoder pretrained.pt --calibrate AN4/train --evaluate AN4/test --noise kitchen.flac

Voice detector: the recordings of `silero_accuracy.py` (200 calibrate, half of them mixed with the first
half of the noise; judged clean and at 0 dB with the second half); and the same without its front end.
Voice encoder (Resemblyzer 0.1.4, Apache-2.0): windows of the same 200 recordings calibrate; judged on those
of every recording of the other folder. The calibration of the step form is drawn by seed from float runs.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from exchange import (
    LAYERS,
    PLACE,
    SETS,
    Arrays,
    callable_of_session,
    evaluate,
    recordings,
    run_steps,
    zero_states,
)
from onnx import numpy_helper
from torch_twins import Spectrum, callable_of, twin

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from silero_accuracy import drawn, noisy
from voice_encoder import band_scales, load_encoder
from voice_features import utterance_windows

from nnaq.tasks.framing import frames
from nnaq.tasks.recordings import find_recordings, read_audio

MOMENTS = 16384  # time steps that calibrate the step form


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("detector", "encoder", "calibrate", "evaluate", "noise"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    return parser.parse_args()


def joined(name: str, series: list[np.ndarray]) -> Arrays:
    """Recordings one after the other, with their lengths."""
    return {f"{name}:inputs": np.concatenate(series), f"{name}:lengths": np.array([len(s) for s in series])}


def gates(weight: np.ndarray) -> np.ndarray:
    """From ONNX's order of gates (i, o, f, g) to i, f, g, o."""
    i, o, f, g = np.split(weight, 4)
    return np.concatenate([i, f, g, o])


def detector_weights(model: onnx.ModelProto) -> Arrays:
    """The initializers of the voice detector under the exchange's names."""
    held = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    (lstm,) = (node for node in model.graph.node if node.op_type == "LSTM")
    kernel, recurrent, bias = (held.pop(name)[0] for name in lstm.input[1:4])
    held["stft.weight"] = held.pop("stft.forward_basis_buffer")
    both = gates(bias[:512]) + gates(bias[512:])
    names = {"lstm.0.input": gates(kernel), "lstm.0.recurrent": gates(recurrent), "lstm.0.bias": both}
    return {f"weight:{name}": array for name, array in {**held, **names, **no_bias(names)}.items()}


def encoder_weights(module: torch.nn.Module) -> Arrays:
    """The parameters of the voice encoder under the exchange's names."""
    held = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    found = {f"linear.{part}": held[f"linear.{part}"] for part in ("weight", "bias")}
    for layer in range(LAYERS["voice"]):
        found[f"lstm.{layer}.input"] = held[f"lstm{layer}.weight_ih_l0"]
        found[f"lstm.{layer}.recurrent"] = held[f"lstm{layer}.weight_hh_l0"]
        found[f"lstm.{layer}.bias"] = held[f"lstm{layer}.bias_ih_l0"] + held[f"lstm{layer}.bias_hh_l0"]
    return {f"weight:{name}": array for name, array in {**found, **no_bias(found)}.items()}


def no_bias(weights: Arrays) -> Arrays:
    """Zeros for the second bias that nn.LSTM insists on."""
    found = {name: array for name, array in weights.items() if name.startswith("lstm.") and array.ndim == 1}
    return {name.replace(".bias", ".no_bias"): np.zeros_like(array) for name, array in found.items()}


def moments(model: str, data: Arrays) -> Arrays:
    """Inputs and states of time steps drawn from float runs over the calibration recordings."""
    step = callable_of(twin(model, "step", data))
    series = recordings(data, "calibration")
    chance = np.random.default_rng(0)
    share = MOMENTS / sum(map(len, series))
    kept: list[tuple[np.ndarray, ...]] = []

    def watched(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        here = chance.random(len(arrays[0])) < share
        kept.append(tuple(array[here] for array in arrays))
        return step(*arrays)

    run_steps(watched, model, data, "calibration")
    order = chance.permutation(sum(len(one[0]) for one in kept))
    drawn_ones = [np.concatenate(parts)[order] for parts in zip(*kept, strict=True)]
    return {f"step:{place}": array for place, array in enumerate(drawn_ones)}


def export_onnx(model: str, form: str, data: Arrays, opset: int = 21, ending: str = "") -> None:
    """The float twin as an ONNX file; time steps or recordings are an open axis."""
    module = twin(model, form, data)
    width = data["calibration:inputs"].shape[1:]
    lead = (2, 160) if (model, form) == ("voice", "sequence") else (2,)
    states = [torch.from_numpy(s) for s in zero_states(model, 2)] if form == "step" else []
    example = (torch.zeros(*lead, *width), *states)
    inputs = ["x", *(f"state{place}" for place in range(len(states)))]
    outputs = ["y", *(f"next{place}" for place in range(len(states)))]
    torch.onnx.export(
        module, example, str(PLACE / f"{model}-{form}{ending}.onnx"), input_names=inputs,
        output_names=outputs,
        dynamic_axes={name: {0: "batch"} for name in [*inputs, *outputs]}, opset_version=opset, dynamo=False,
    )  # fmt: skip


def write(model: str, data: Arrays) -> None:
    """Check the twins against the float outputs, add the step calibration, write all."""
    data |= moments(model, data)
    for form in ("sequence", "step"):
        found = evaluate(callable_of(twin(model, form, data)), model, form, data)
        worst = max(float(np.abs(found[which] - data[f"{which}:outputs"]).max()) for which in SETS[model])
        print(f"{model} {form}: twin within {worst:.1e} of the original")
        assert worst < 1e-5
        export_onnx(model, form, data)
        export_onnx(model, form, data, 17, "-17")  # for NNCF
        again = evaluate(callable_of_session(PLACE / f"{model}-{form}.onnx"), model, form, data)
        worst = max(float(np.abs(again[which] - data[f"{which}:outputs"]).max()) for which in SETS[model])
        print(f"{model} {form}: ONNX twin within {worst:.1e} of the original")
        assert worst < 1e-5
    np.savez(PLACE / f"{model}.npz", **data)


def detector(given: argparse.Namespace) -> None:
    """The voice detector's side of the exchange."""
    noise = read_audio(given.noise, 16000)
    seen, unseen = noise[: len(noise) // 2], noise[len(noise) // 2 :]
    speech = drawn(given.calibrate, 200, 0)
    quarter = len(speech) // 4
    mixed = noisy(speech[:quarter], seen, 10) + noisy(speech[quarter : 2 * quarter], seen, 0)
    clean = [read_audio(r.path, 16000) for r in find_recordings(given.evaluate)]
    sets = {"calibration": mixed + speech[2 * quarter :], "clean": clean, "noisy": noisy(clean, unseen, 0)}
    model = onnx.load(given.detector)
    data = detector_weights(model)
    for name, audio in sets.items():
        data |= joined(name, [frames(one, 512, 64) for one in audio])
    session = onnxruntime.InferenceSession(str(given.detector))
    zero = np.zeros((1, 1, 128), np.float32)

    def original(x: np.ndarray) -> list[np.ndarray]:
        return session.run(None, {"input": x, "h": zero, "c": zero})

    data |= {f"{w}:outputs": a for w, a in evaluate(original, "silero", "sequence", data).items()}
    write("silero", data)
    front = Spectrum().eval()
    front.load_state_dict({"stft.weight": torch.from_numpy(data["weight:stft.weight"])})
    spectra = {f"{name}:inputs": callable_of(front)(data[f"{name}:inputs"])[0] for name in sets}
    kept = {name: array for name, array in data.items() if not name.startswith(("step:", "weight:stft"))}
    write("silero_core", kept | spectra)


def encoder(given: argparse.Namespace) -> None:
    """The voice encoder's side: windows of utterances, to which recording each belongs, who speaks there.

    The bands are equalised as `voice_encoder.py` does it: all peers get the better model.
    """
    heard = [utterance_windows(audio) for audio in drawn(given.calibrate, 200, 0)]
    scales = band_scales(np.concatenate(heard))
    module = load_encoder(given.encoder, scales)
    data = encoder_weights(module) | joined("calibration", [one * scales for mels in heard for one in mels])
    tested = find_recordings(given.evaluate)
    heard = [utterance_windows(read_audio(r.path, 16000)) for r in tested]
    data |= joined("test", [one * scales for mels in heard for one in mels])
    data["test:counts"] = np.array([len(mels) for mels in heard])
    data["test:speakers"] = np.array([r.name.split("/")[0] for r in tested])
    data["test:outputs"] = callable_of(module)(np.stack(recordings(data, "test")))[0]
    write("voice", data)


if __name__ == "__main__":
    torch.set_num_threads(1)
    PLACE.mkdir(parents=True, exist_ok=True)
    detector(arguments())
    encoder(arguments())
