"""Weights whose codes are decided: what a training through codebooks ends with, in memory and in a file.

`codebooks.npz` lies beside the recipe that names it and holds two arrays for every such weight NAME:

    codes:NAME   int8 in the weight's own shape
    kind:NAME    text [], the type of the codes as a graph prints it, every digit of every scale:
                 `i8[128,64]<[0.0025, …]@0, 0> palette5(-96, …, 101)`; without a table it is plain int8

It is a zip of arrays of numbers and text, as NumPy writes it; nothing is ever unpickled. Codes are kept, not
only tables: with which of its entries a weight ends is the business of its training.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnaq.errors import GraphError, OpError, RecipeError
from nnaq.ir.types import TensorType, parse_type
from nnaq.kernels.boundary import dequantize_array
from nnaq.kernels.codebook import find_indices
from nnaq.outside import read_npz

FILE = "codebooks.npz"
CODES, KIND = "codes:", "kind:"


@dataclass(frozen=True, eq=False)
class Coded:
    """A weight as it ships: real = codes * scale. codes: int8 in the weight's shape; kind: scale, palette."""

    codes: np.ndarray
    kind: TensorType

    def reals(self) -> np.ndarray:
        """What the codes stand for, float32."""
        return dequantize_array(self.codes, self.kind)


def write_codebooks(path: Path, weights: Mapping[str, Coded]) -> None:
    """Write weights by name; the same weights always give the same bytes."""
    arrays: dict[str, np.ndarray] = {}
    for name, weight in sorted(weights.items()):
        arrays |= {CODES + name: weight.codes, KIND + name: np.array(str(weight.kind))}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def read_codebooks(path: Path) -> dict[str, Coded]:
    """The weights of a file, by name. Raises RecipeError: no such file, or what in it is not as written."""
    try:
        arrays = read_npz(path)
    except FileNotFoundError:
        raise RecipeError(
            f"there is no {path}, which a recipe names for the codebooks of its weights; copy it beside the "
            "recipe, or take `codebooks` out of it"
        ) from None
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"{path} cannot be read as codebooks ({error}); copy it anew from the folder of its training"
        ) from None
    names = [name.removeprefix(CODES) for name in arrays if name.startswith(CODES)]
    if not names or {*(CODES + name for name in names), *(KIND + name for name in names)} != set(arrays):
        raise RecipeError(f"{path} holds no codes and kinds of weights by name; it is no file of codebooks")
    return {name: _checked(path, name, arrays[CODES + name], arrays[KIND + name]) for name in names}


def _checked(path: Path, name: str, codes: np.ndarray, kind: np.ndarray) -> Coded:
    """A weight whose codes and type fit each other."""
    try:
        found = parse_type(str(kind))
    except (GraphError, ValueError) as error:
        raise RecipeError(f"{path}: the kind of weight {name!r} cannot be read: {error}") from None
    quant = found.quant
    count = 1 if quant is None or quant.axis is None else found.shape[quant.axis : quant.axis + 1]
    if (
        codes.dtype != np.int8
        or found.dtype != "i8"
        or quant is None
        or found.zero_point
        or found.shape != codes.shape
        or count not in (1, (len(quant.scale),))
    ):
        scales = "no scales" if quant is None else f"{len(quant.scale)} scales"
        raise RecipeError(
            f"{path}: weight {name!r} has {codes.dtype} codes {list(codes.shape)} and the kind {found.dtype}"
            f"{list(found.shape)} with {scales} and zero_point {found.zero_point}; expected i8, one shape, a "
            "scale for each channel or for all, and zero_point 0"
        )
    if found.palette is not None:
        try:
            find_indices(codes, found.palette)
        except OpError as error:
            raise RecipeError(f"{path}: the codes of weight {name!r} are not in its table: {error}") from None
    return Coded(codes, found)
