"""Real streaming wake-word models in tflite-micro: golden vectors of one, every tensor of any.

    .oracles/tflm/bin/python tests/oracles/tflm_wakeword.py MODEL.tflite SEED OUT.npz

leaves in OUT `scores`, frame by frame, and `tensor_<index>` for each tensor that an operator of the
main subgraph makes. Inputs are drawn from the seed (spectrogram.py).
"""

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np
from spectrogram import spectrogram
from tflite_micro import runtime
from tflm_models import schema

STEPS = 1000
OKAY_NABU = Path(__file__).resolve().parents[2] / ".demo" / "wakeword" / "okay_nabu.tflite"


def made_tensors(model):
    """Indices of the tensors that operators make (variables apart), and those of the last layer's ends."""
    graph = model.subgraphs[0]
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    made, last = [], None
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        if name not in ("VAR_HANDLE", "CALL_ONCE", "ASSIGN_VARIABLE"):
            made += [int(index) for index in operator.outputs]
        if name == "FULLY_CONNECTED":
            last = int(operator.inputs[0]), int(operator.outputs[0])
    return made, last


def run(path, frames):
    """The arrays of all made tensors, by index, and those of the outputs; one entry per frame."""
    config = runtime.InterpreterConfig.kPreserveAllTensors
    interpreter = runtime.Interpreter.from_file(str(path), intrepreter_config=config, arena_size=1 << 22)
    made, last = made_tensors(schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes())))
    kept, scores = {index: [] for index in made}, []
    for frame in frames:
        interpreter.set_input(frame, 0)
        interpreter.invoke()
        for index, arrays in kept.items():
            arrays.append(np.array(interpreter.GetTensor(index, 0)["tensor_data"]))
        scores.append(np.array(interpreter.get_output(0)))
    return {index: np.stack(arrays) for index, arrays in kept.items()}, np.stack(scores), last


def okay_nabu(random, collector):
    """The last layer, its operand and the score of every frame."""
    if not OKAY_NABU.exists():
        sys.exit(f"The model {OKAY_NABU.name} is missing: run `make demo`.")
    kept, scores, (before, after) = run(OKAY_NABU, spectrogram(random, STEPS))
    arrays = {"logits": kept[after], "penultimate": kept[before], "scores": scores}
    collector.values_compared += sum(array.size for array in arrays.values())
    collector.add(**arrays)
    collector.constants["model_sha256"] = np.array(hashlib.sha256(OKAY_NABU.read_bytes()).hexdigest())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("seed", type=int)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    frames = spectrogram(np.random.default_rng(arguments.seed), STEPS)
    kept, scores, _ = run(arguments.model, frames)
    np.savez(arguments.out, scores=scores, **{f"tensor_{i}": array for i, array in kept.items()})


OPERATORS = {"okay_nabu": ("files", okay_nabu)}

if __name__ == "__main__":
    main()
