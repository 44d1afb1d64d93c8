"""nnaq's own palettes of the exchange's weights, and the int8 codes whose stored size Vela judges.

Tables hold int8 codes; scales are one per output channel. Besides the palettes of `codebook_exchange.py` it
writes `codes.npz`: every weight as plain int8 (`MODEL:NAME:8`) and on a palette per tensor of fewer bits.
"""

import numpy as np
from codebook_exchange import BITS, FOLDER, trained, write

from nnaq.codebooks.choice import PaletteChoice
from nnaq.codebooks.fit import Fitted, fit_palette

GRANULARITIES = {
    "per_tensor, scale per channel": PaletteChoice(4),
    "per_channel": PaletteChoice(4, "per_channel"),
}


def fitted(weight: np.ndarray, bits: int, choice: PaletteChoice) -> Fitted:
    """The palette of one weight, from scales that cover every row."""
    top = np.abs(weight.reshape(len(weight), -1)).max(axis=1).astype(np.float64)
    rows = 1 if choice.granularity == "per_channel" else 0
    return fit_palette(
        weight, np.where(top > 0, top, 1.0) / 127, PaletteChoice(bits, choice.granularity), rows
    )


def reals(found: Fitted) -> np.ndarray:
    """What the codes mean, float32."""
    shape = (-1,) + (1,) * (found.codes.ndim - 1)
    return np.asarray(found.codes * found.scale.reshape(shape), np.float32)


def plain(weight: np.ndarray) -> np.ndarray:
    """int8 codes at one scale per row."""
    top = np.abs(weight.reshape(len(weight), -1)).max(axis=1).reshape((-1,) + (1,) * (weight.ndim - 1))
    return np.asarray(np.rint(weight / np.where(top > 0, top, 1.0) * 127), np.int8)


if __name__ == "__main__":
    for name, choice in GRANULARITIES.items():
        for bits in BITS:
            write("nnaq", ["nnaq"], name, bits, lambda w, b=bits, c=choice: reals(fitted(w, b, c)))
    codes = {f"{name}:8": plain(weight) for name, weight in trained().items()}
    for bits in BITS:
        shared = GRANULARITIES["per_tensor, scale per channel"]
        codes |= {f"{name}:{bits}": fitted(weight, bits, shared).codes for name, weight in trained().items()}
    np.savez(FOLDER / "codes.npz", **codes)
