"""MCT's post-training quantisation of torch modules, evaluated by its own fake-quantised module.

A target platform of its schema: weights symmetric per channel, activations uniform, every operator 8 bits
(weights 4, activations 16 as the scheme says); the rest are its defaults.
"""

import sys
from collections import Counter

import torch
import torchvision_operators  # noqa: F401  (before MCT)

import model_compression_toolkit as mct  # isort: skip
from exchange import MODELS, SCHEMES, Arrays, attempt, evaluate, load, recordings, step_batches
from mct_quantizers import PytorchActivationQuantizationHolder, PytorchQuantizationWrapper, QuantizationMethod
from model_compression_toolkit.constants import FLOAT_BITWIDTH
from model_compression_toolkit.target_platform_capabilities.constants import BIAS_ATTR, KERNEL_ATTR
from model_compression_toolkit.target_platform_capabilities.schema import mct_current_schema as schema
from torch_twins import Cell, callable_of, twin

BITS = {"W8A8": (8, 8), "W4A8": (4, 8), "W8A16": (8, 16)}
PRODUCTS = ("CONV", "FULLY_CONNECTED")


def attribute(bits: int, on: bool) -> schema.AttributeQuantizationConfig:
    """How one kind of weight is quantised."""
    return schema.AttributeQuantizationConfig(
        weights_quantization_method=QuantizationMethod.SYMMETRIC,
        weights_n_bits=bits,
        weights_per_channel_threshold=True,
        enable_weights_quantization=on,
        lut_values_bitwidth=None,
    )


def platform(scheme: str) -> schema.TargetPlatformCapabilities:
    """A platform that quantises every operator."""
    weight_bits, bits = BITS[scheme]
    none = attribute(FLOAT_BITWIDTH, False)
    common = {
        "activation_quantization_method": QuantizationMethod.UNIFORM,
        "default_weight_attr_config": none,
        "activation_n_bits": bits,
        "supported_input_activation_n_bits": bits,
        "enable_activation_quantization": True,
        "quantization_preserving": False,
        "fixed_scale": None,
        "fixed_zero_point": None,
        "simd_size": 32,
        "signedness": schema.Signedness.AUTO,
    }
    weighted = {KERNEL_ATTR: attribute(weight_bits, True), BIAS_ATTR: none}
    product = schema.OpQuantizationConfig(attr_weights_configs_mapping=weighted, **common)
    other = schema.OpQuantizationConfig(attr_weights_configs_mapping={}, **common)
    products = schema.QuantizationConfigOptions(quantization_configurations=(product,), base_config=product)
    return schema.TargetPlatformCapabilities(
        default_qco=schema.QuantizationConfigOptions(quantization_configurations=(other,)),
        operator_set=tuple(
            schema.OperatorsSet(name=getattr(schema.OperatorSetNames, name), qc_options=products)
            for name in PRODUCTS
        ),
        fusing_patterns=(),
        add_metadata=False,
        name="all_quantised",
    )


def left_in_float(module: torch.nn.Module) -> str:
    """Layers with weights that are not quantised, and how many values are."""
    plain: Counter[str] = Counter()
    wrapped = {id(m.layer) for m in module.modules() if isinstance(m, PytorchQuantizationWrapper)}
    for one in module.modules():
        own = dict(one.named_parameters(recurse=False))
        held = isinstance(one, PytorchQuantizationWrapper) or id(one) in wrapped
        if any(p.ndim > 1 for p in own.values()) and not held:
            plain[type(one).__name__] += 1
    holders = sum(isinstance(m, PytorchActivationQuantizationHolder) for m in module.modules())
    left = ", ".join(f"{number} {kind}" for kind, number in sorted(plain.items()))
    return f"{left or 'nothing'} ({holders} values quantised)"


def sliced(self: Cell, joined: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The four gates cut out one by one: MCT stops at a function with several results."""
    size = self.hidden
    return tuple(joined[:, start : start + size] for start in range(0, 4 * size, size))


def work(model: str, form: str, scheme: str) -> tuple[Arrays, str]:
    """Quantise one twin and run it."""
    data = load(model)
    if form == "step":
        batches = [list(batch) for batch in step_batches(data)]
        calls = batches[:-1]  # MCT asks for batches of one size
    else:
        calls = [[one[None] if model == "voice" else one] for one in recordings(data, "calibration")]
    made, _ = mct.ptq.pytorch_post_training_quantization(
        twin(model, form, data), lambda: iter(calls), target_platform_capabilities=platform(scheme)
    )
    return evaluate(callable_of(made.eval()), model, form, data), left_in_float(made)


if __name__ == "__main__":
    torch.set_num_threads(1)
    Cell.gates = sliced
    for model in sys.argv[1:] or MODELS:
        for form in ("sequence", "step"):
            for scheme in SCHEMES:
                attempt(
                    "MCT", ["model-compression-toolkit", "torch"], model, form, scheme,
                    lambda model=model, form=form, scheme=scheme: work(model, form, scheme),
                )  # fmt: skip
