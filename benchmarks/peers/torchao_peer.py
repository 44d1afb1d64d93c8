"""torchao's PT2E with its XNNPACKQuantizer, evaluated by its quantise and dequantise reference operators.

Per-channel weights; ranges by its HistogramObserver, the default. W4A8 narrows the weights' codes to -7…7,
W8A16 widens the activations' to 16 bits, both by the quantizer's own configuration.
"""

import sys
from collections import Counter

import torch
from exchange import MODELS, SCHEMES, Arrays, attempt, evaluate, load, recordings, step_batches
from torch_twins import callable_of, twin
from torchao.quantization.pt2e import HistogramObserver, PerChannelMinMaxObserver
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import QuantizationSpec
from torchao.testing.pt2e._xnnpack_quantizer import XNNPACKQuantizer
from torchao.testing.pt2e._xnnpack_quantizer_utils import QuantizationConfig

ARITHMETIC = ("conv", "linear", "lstm", "add", "mul", "sigmoid", "tanh", "sqrt", "div", "sum")


def configuration(scheme: str) -> QuantizationConfig:
    """What the quantizer gives activations and weights."""
    bits = 16 if scheme == "W8A16" else 8
    top = 7 if scheme == "W4A8" else 127
    activation = QuantizationSpec(
        dtype=torch.int16 if bits == 16 else torch.int8,
        quant_min=-(2 ** (bits - 1)),
        quant_max=2 ** (bits - 1) - 1,
        qscheme=torch.per_tensor_affine,
        observer_or_fake_quant_ctr=HistogramObserver.with_args(eps=2**-12 if bits == 8 else 2**-24),
    )
    weight = QuantizationSpec(
        dtype=torch.int8,
        quant_min=-top,
        quant_max=top,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(eps=2**-24),
    )
    return QuantizationConfig(activation, activation, weight, None, False)


def left_in_float(graph: torch.fx.Graph) -> str:
    """Operators with arithmetic on an operand that is not quantised, their number by kind."""
    found: Counter[str] = Counter()
    for node in graph.nodes:
        name = getattr(node.target, "__name__", str(node.target)).split(".")[0].rstrip("_").rstrip("1d")
        if node.op != "call_function" or not name.startswith(ARITHMETIC):
            continue
        reads = [one for one in node.all_input_nodes if one.op != "get_attr"]
        if not all("quantize_per" in str(one.target) for one in reads):
            found[name] += 1
    return ", ".join(f"{number} {kind}" for kind, number in sorted(found.items())) or "nothing"


def exported(model: str, form: str, data: Arrays) -> torch.fx.GraphModule:
    """The twin as PT2E takes it, its first axis open."""
    example = next(step_batches(data, 8)) if form == "step" else (recordings(data, "calibration")[0],)
    if (model, form) == ("voice", "sequence"):
        example = (example[0][None].repeat(2, 0),)
    tensors = tuple(torch.from_numpy(array) for array in example)
    open_axis = torch.export.Dim("batch", min=1, max=100_000)
    shapes = tuple({0: open_axis} for _ in tensors)
    return torch.export.export(twin(model, form, data), tensors, dynamic_shapes=shapes).module()


def work(model: str, form: str, scheme: str) -> tuple[Arrays, str]:
    """Prepare, calibrate, convert, evaluate."""
    data = load(model)
    prepared = prepare_pt2e(exported(model, form, data), XNNPACKQuantizer().set_global(configuration(scheme)))
    observe = callable_of(prepared)
    if form == "step":
        for batch in step_batches(data):
            observe(*batch)
    else:
        for one in recordings(data, "calibration"):
            observe(one[None] if model == "voice" else one)
    converted = convert_pt2e(prepared)
    return evaluate(callable_of(converted), model, form, data), left_in_float(converted.graph)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for model in sys.argv[1:] or MODELS:
        for form in ("sequence", "step"):
            for scheme in SCHEMES:
                attempt(
                    "torchao PT2E", ["torchao", "torch"], model, form, scheme,
                    lambda model=model, form=form, scheme=scheme: work(model, form, scheme),
                )  # fmt: skip
