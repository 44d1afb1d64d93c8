"""coremltools' quantiser of torch modules (optimize.torch.quantization), evaluated by its fake quantisation.

LinearQuantizer, calibrated without training (its documented post-training use: observers on, then off);
weights per channel, activations quint8. It has no other activations than 8 bits.
"""

import copy
import sys

import torch
from coremltools.optimize.torch.quantization import LinearQuantizer, LinearQuantizerConfig
from exchange import MODELS, SCHEMES, Arrays, attempt, evaluate, load, recordings, step_batches
from torch_twins import callable_of, twin

WEIGHTS = {"W8A8": "qint8", "W4A8": "qint4", "W8A16": "qint8"}
ACTIVATIONS = {"W8A8": "quint8", "W4A8": "quint8", "W8A16": "quint16"}


def left_in_float(prepared: torch.fx.GraphModule) -> str:
    """Calls of the prepared module that read a value without fake quantisation, by kind."""
    kinds = dict(prepared.named_modules())
    found: dict[str, int] = {}
    for node in prepared.graph.nodes:
        module = kinds.get(node.target) if node.op == "call_module" else None
        arithmetic = node.op == "call_function" and any(
            word in str(node.target) for word in ("add", "mul", "sigmoid", "tanh", "sqrt", "div", "sum")
        )
        if not arithmetic and (module is None or "activation_post_process" in node.target):
            continue
        if all("activation_post_process" in str(one.target) for one in node.all_input_nodes):
            continue
        name = type(module).__name__ if module else getattr(node.target, "__name__", str(node.target))
        found[name] = found.get(name, 0) + 1
    return ", ".join(f"{number} {kind}" for kind, number in sorted(found.items())) or "nothing"


def work(model: str, form: str, scheme: str) -> tuple[Arrays, str]:
    """Prepare, calibrate, stop observing, evaluate."""
    data = load(model)
    options = {"weight_dtype": WEIGHTS[scheme], "activation_dtype": ACTIVATIONS[scheme]}
    options |= {"weight_per_channel": True, "quantization_scheme": "affine"}
    config = LinearQuantizerConfig.from_dict({"global_config": {**options, "milestones": [0, 1, 2, 3]}})
    quantizer = LinearQuantizer(twin(model, form, data), config)
    if form == "step":
        calls = list(step_batches(data))
    else:
        calls = [(one[None] if model == "voice" else one,) for one in recordings(data, "calibration")]
    example = tuple(torch.from_numpy(array) for array in calls[0])
    prepared = quantizer.prepare(example_inputs=example, inplace=False)
    quantizer.step()  # milestone 0: observers on
    with torch.no_grad():
        for call in calls:
            prepared(*(torch.from_numpy(array) for array in call))
    for _ in range(2):
        quantizer.step()  # milestones 1 and 2: fake quantisation on, observers off
    prepared.eval()
    left = left_in_float(prepared) if isinstance(prepared, torch.fx.GraphModule) else "unknown"
    return evaluate(callable_of(prepared), model, form, copy.copy(data)), left


if __name__ == "__main__":
    torch.set_num_threads(1)
    for model in sys.argv[1:] or MODELS:
        for form in ("sequence", "step"):
            for scheme in SCHEMES:
                attempt(
                    "coremltools", ["coremltools", "torch"], model, form, scheme,
                    lambda model=model, form=form, scheme=scheme: work(model, form, scheme),
                )  # fmt: skip
