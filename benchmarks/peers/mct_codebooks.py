"""MCT's k-means weights (its LUT quantizers) of the exchange's weights: a table per tensor, int8 entries.

Scales that are powers of two, MCT's LUT_POT, only if asked for by name.
"""

import sys

import numpy as np
import torchvision_operators  # noqa: F401  (before MCT)
from codebook_exchange import BITS, write
from model_compression_toolkit.constants import LUT_VALUES, LUT_VALUES_BITWIDTH, SCALE_PER_CHANNEL
from model_compression_toolkit.core.common.quantization.quantization_params_generation import (
    lut_kmeans_params,
)
from model_compression_toolkit.core.common.quantization.quantizers.lut_kmeans_quantizer import (
    lut_kmeans_quantizer,
)

SCALES = {"per_tensor": (False, True), "per_tensor, scale per channel": (True, True)}
SCALES |= {"per_tensor, power-of-two scale per channel": (True, False)}


def palettized(weight: np.ndarray, bits: int, per_channel: bool, symmetric: bool) -> np.ndarray:
    """One weight through the parameters and the quantizer that MCT gives LUT_SYM and LUT_POT weights."""
    found, axis = lut_kmeans_params.lut_kmeans_tensor(
        weight, p=2, n_bits=bits, per_channel=per_channel, channel_axis=0, is_symmetric=symmetric
    )
    held = {LUT_VALUES: found[LUT_VALUES], SCALE_PER_CHANNEL: found[SCALE_PER_CHANNEL]}
    made = lut_kmeans_quantizer(weight, bits, True, held, per_channel, axis)
    return np.asarray(made, np.float32).reshape(weight.shape)


if __name__ == "__main__":
    np.random.seed(0)
    assert LUT_VALUES_BITWIDTH == 8
    for name in sys.argv[1:] or ("per_tensor", "per_tensor, scale per channel"):
        per_channel, symmetric = SCALES[name]
        for bits in BITS:
            write(
                "MCT", ["model-compression-toolkit", "scikit-learn"], name, bits,
                lambda w, b=bits, c=per_channel, s=symmetric: palettized(w, b, c, s),
            )  # fmt: skip
