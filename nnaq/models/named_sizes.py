"""Sizes of transducers by name, for `make_transducer`.

    tiny     about 0.3 million parameters, whichever the encoder
    small    about 1.22 million, whichever the encoder: what is compared at equal parameters
    paper    near what was published, for latency and memory; not meant to be trained on a small set

Counted with 120 features (40 bands, 3 frames stacked) and 121 units. Sources of `paper`: rnnt, five LSTM
layers of 1024 with a predictor of the same width, customary in sub-8-bit work; convrnnt, the local channels,
kernels and blocks that public implementations agree on, 7 LSTM layers of 640; conformer and contextnet, those
published with 10 million parameters (Conformer S; ContextNet with its channels halved), causal, with one
halving of the frame rate where the published ones divide it by 4 and 8, as frames here are three times as
long.
"""

from collections.abc import Mapping
from typing import Any

from nnaq.errors import DataError

_TINY: dict[str, Any] = {"predictor": 64, "joint": 96}
_SMALL: dict[str, Any] = {"predictor": 128, "joint": 192}

SIZES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "rnnt": {
        "tiny": {**_TINY, "hidden": 104, "layers": 2},
        "small": {**_SMALL, "hidden": 192, "layers": 3},
        "paper": {"predictor": 1024, "joint": 512, "hidden": 1024, "layers": 5},
    },
    "convrnnt": {
        "tiny": {
            **_TINY, "local": (16, 16, 8, 8), "channels": 48, "inner": 96, "blocks": 4, "joined": 64,
            "hidden": 96, "layers": 2,
        },
        "small": {
            **_SMALL, "local": (16, 16, 8, 8), "channels": 64, "inner": 160, "blocks": 6, "joined": 128,
            "hidden": 176, "layers": 3,
        },
        "paper": {
            "predictor": 512, "joint": 512, "local": (100, 100, 64, 64), "kernel": 5, "channels": 512,
            "inner": 1024, "blocks": 6, "joined": 512, "hidden": 640, "layers": 7,
        },
    },
    "conformer": {
        "tiny": {**_TINY, "width": 64, "layers": 3, "heads": 4, "past": 24, "inner": 144, "kernel": 9},
        "small": {**_SMALL, "width": 96, "layers": 6, "heads": 4, "past": 32, "inner": 240, "kernel": 9},
        "paper": {
            "predictor": 320, "joint": 640, "width": 144, "layers": 16, "heads": 4, "past": 64, "kernel": 31,
        },
    },
    "contextnet": {
        "tiny": {**_TINY, "width": 160, "layers": 2, "blocks": ((96, 1), (96, 2), (128, 1), (128, 1))},
        "small": {
            **_SMALL, "width": 256, "layers": 3, "blocks": ((160, 1), (160, 2), *[(192, 1)] * 4),
        },
        "paper": {
            "predictor": 640, "joint": 640, "width": 320, "layers": 5,
            "blocks": (*[(128, 1)] * 2, (128, 2), *[(128, 1)] * 7, *[(256, 1)] * 11),
        },
    },
}  # fmt: skip


def named_size(encoder: str, size: str) -> dict[str, Any]:
    """The sizes of a transducer with this encoder, as `make_transducer` takes them. Raises DataError."""
    if encoder not in SIZES:
        raise DataError(f"there is no model {encoder!r}; there are {', '.join(SIZES)}")
    if size not in SIZES[encoder]:
        raise DataError(f"model {encoder!r} has no size {size!r}; it has {', '.join(SIZES[encoder])}")
    return dict(SIZES[encoder][size])
