"""coremltools' k-means palettes of the exchange's weights (optimize.torch, PostTrainingPalettizer).

A table per channel is one k-means per row and takes over 15 minutes for one width: only if asked for by name.
"""

import sys
import warnings

import numpy as np
import torch
from codebook_exchange import BITS, write
from coremltools.optimize.torch.palettization import PostTrainingPalettizer, PostTrainingPalettizerConfig
from torch import nn

GRANULARITIES = {
    "per_tensor": {"granularity": "per_tensor"},
    "per_tensor, scale per channel": {"granularity": "per_tensor", "enable_per_channel_scale": True},
    "per_channel": {"granularity": "per_grouped_channel", "group_size": 1},
}


def palettized(weight: np.ndarray, bits: int, options: dict) -> np.ndarray:
    """One weight as a linear layer of its own through the palettizer."""
    matrix = torch.from_numpy(weight.reshape(len(weight), -1).copy())
    layer = nn.Sequential(nn.Linear(matrix.shape[1], matrix.shape[0], bias=False))
    layer[0].weight.data = matrix
    choice = {"n_bits": bits, **options}
    config = PostTrainingPalettizerConfig.from_dict({"global_config": choice})
    made = PostTrainingPalettizer(layer, config).compress(num_kmeans_workers=1)
    return made[0].weight.detach().numpy().reshape(weight.shape)


if __name__ == "__main__":
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    for name in sys.argv[1:] or ("per_tensor", "per_tensor, scale per channel"):
        options = GRANULARITIES[name]
        for bits in BITS:
            write(
                "coremltools",
                ["coremltools", "torch"],
                name,
                bits,
                lambda w, b=bits, o=options: palettized(w, b, o),
            )
