"""Codebooks through the exchange: every peer gives the same weights back, moved to the values it stores.

`.peers/exchange/codebooks/PEER/GRANULARITY-BITS.npz` holds the palettised weights as reals by
`MODEL:NAME`, the JSON beside it versions, seconds and what failed. Taken part: every trained weight matrix
but the detector's last row of 128. The spectrum's basis is no trained weight and stays.
"""

import json
import time
import traceback
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
from exchange import BITS, PLACE, Arrays, load, reason, weights_of

__all__ = ["BITS", "FOLDER", "trained", "write"]

FOLDER = PLACE / "codebooks"
FEWEST = 1000


def trained() -> Arrays:
    """The weights that take part, float32 [rows, …] by MODEL:NAME."""
    return {
        f"{model}:{name}": weight
        for model in ("silero", "voice")
        for name, weight in weights_of(load(model)).items()
        if weight.ndim > 1 and weight.size >= FEWEST and not name.startswith("stft")
    }


def write(
    peer: str, packages: list[str], granularity: str, bits: int, work: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Palettise all weights by `work`, which returns reals of the same shape."""
    folder = FOLDER / peer
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{granularity}-{bits}"
    (folder / f"{stem}.npz").unlink(missing_ok=True)
    row = {"peer": peer, "versions": {name: version(name) for name in packages}}
    row |= {"granularity": granularity, "bits": bits, "failure": None}
    start = time.perf_counter()
    try:
        np.savez(folder / f"{stem}.npz", **{name: work(weight) for name, weight in trained().items()})
    except Exception as error:
        traceback.print_exc()
        row["failure"] = reason(error)
    row["seconds"] = round(time.perf_counter() - start, 1)
    (folder / f"{stem}.json").write_text(json.dumps(row, indent=1) + "\n")
    print(json.dumps(row), flush=True)
