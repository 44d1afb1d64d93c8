"""What schemes with tables share: rows, scales, the nearest entry, and the codes that ship.

Everything is seen in code units, u = w / scale[row], where the entries of a table are whole numbers in
[-127, 127]; a table can then serve rows of different size. Scales are float32 numbers, as a graph stores
them, and fixed at the start unless a scheme says otherwise. A row is an output channel: the weight with
that axis in front, as a matrix [R, K]. `weight.rows` neighbouring rows share a table, 0: all of them.

    hard    q = entry[nearest(u)],   of two equally near entries the lower one,   real = q * scale[row]

Codes are made in float64 on the CPU, so that they do not depend on where the parameter lies, and divide
as nnaq.codebooks does: with the tables of a fit they are the codes of the fit.

Choices weighted by activations are fitted without weights here: training sees the loss itself.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnaq.codebooks.choice import Method, PaletteChoice
from nnaq.codebooks.coded import Coded
from nnaq.codebooks.fit import Fitted, fit_palette
from nnaq.codebooks.grid import HIGHEST, Table
from nnaq.ir.types import Palette, Quant, TensorType
from nnaq.quantize.scales import as_float32
from nnaq.train.schemes.attention import count_below
from nnaq.train.schemes.base import Scheme, Weight


class PaletteScheme(Scheme):
    """A weight with tables for its rows, `rows` neighbouring ones to a table (0: all).

    scale: float32 [R], what a code of a row is worth. owner: which table a row uses, [R].
    """

    scale: Tensor
    owner: Tensor

    def __init__(self, weight: Weight, scale: np.ndarray, rows: int) -> None:
        super().__init__(weight)
        self.shape = tuple(np.moveaxis(weight.value, weight.axis, 0).shape)
        self.rows = rows
        owner = owners(self.shape[0], rows)
        self.register_buffer("scale", torch.tensor([as_float32(each) for each in scale], dtype=torch.float32))
        self.register_buffer("owner", torch.from_numpy(owner), persistent=False)

    def matrix(self, parameter: Tensor) -> Tensor:
        """The parameter as [R, K]."""
        turned = parameter.movedim(self.weight.axis, 0)
        return turned.reshape(self.shape[0], math.prod(self.shape[1:]))

    def shaped(self, matrix: Tensor) -> Tensor:
        """A matrix [R, K] in the shape of the parameter."""
        return matrix.reshape(self.shape).movedim(0, self.weight.axis)

    def units(self, parameter: Tensor) -> Tensor:
        """u = w / scale[row], [R, K]."""
        return self.matrix(parameter) / self.scale[:, None]

    def reals(self, units: Tensor) -> Tensor:
        """w = u * scale[row], in the parameter's shape."""
        return self.shaped(units * self.scale[:, None])

    def exact_units(self, parameter: Tensor) -> Tensor:
        """u in float64 on the CPU, without a gradient."""
        matrix = self.matrix(parameter.detach().to("cpu").double())
        return matrix / self.scale.detach().to("cpu").double()[:, None]

    def hard_of(self, index: Tensor, codes: Tensor, scale: Tensor) -> Coded:
        """What ships.

        index: which of its table's levels every weight takes, [R, K]. codes: the int8 code of every
        level, ascending, [tables, E]; equal ones become one entry. scale: [R].
        """
        small = codes.to("cpu", torch.int8)
        turned = small[self.owner.to("cpu")].gather(1, index).numpy().reshape(self.shape)
        whole = np.ascontiguousarray(np.moveaxis(turned, 0, self.weight.axis))
        tables = [tuple(sorted(set(row))) for row in small.tolist()]
        return Coded(whole, _kind(self.weight, scale.double().tolist(), tables, self.rows, whole))


class FixedTables(PaletteScheme):
    """A weight whose tables were found before training and stay.

    table: int16 [tables, E], ascending, a short one filled up with its last entry.
    """

    table: Tensor

    def __init__(self, weight: Weight, scale: np.ndarray, tables: Sequence[Table], rows: int) -> None:
        super().__init__(weight, scale, rows)
        entries = level_count(weight.choice)
        filled = [[*table, *[table[-1]] * (entries - len(table))] for table in tables]
        self.register_buffer("table", torch.tensor(filled, dtype=torch.int16))

    def hard(self, parameter: Tensor) -> Coded:
        """The nearest entry of every weight."""
        index = nearest(self.exact_units(parameter), self.table.to("cpu").double(), self.owner.to("cpu"))
        return self.hard_of(index, self.table, self.scale)


def level_count(choice: PaletteChoice) -> int:
    """Levels of a table: 2^bits, one more beside a zero map, and never more than there are codes."""
    return int(min(2**choice.bits + (choice.zero == "mapped"), 2 * HIGHEST + 1))


def owners(count: int, rows: int) -> np.ndarray:
    """Which table each of `count` rows uses, int64."""
    return np.arange(count) // rows if rows else np.zeros(count, np.int64)


def given_scales(weight: Weight) -> np.ndarray:
    """The scales of the plain int8 codes, float64 [R]."""
    assert weight.kind.quant is not None
    count = weight.value.shape[weight.axis]
    return np.broadcast_to(np.array(weight.kind.quant.scale, np.float64), (count,))


def fitted_start(weight: Weight, method: Method | None = None) -> tuple[np.ndarray, list[Table]]:
    """Scales [R] and a table per group of rows, by nnaq.codebooks; 0 is among the entries of a zero map.

    method: another than that of the choice. One scale for the tensor stays one.
    """
    choice = replace(weight.choice, weighting="none", method=method or weight.choice.method)
    if weight.kind.quant is None or weight.kind.quant.axis is None:
        choice = replace(choice, scale="kept")
    turned = np.moveaxis(np.asarray(weight.value, np.float64), weight.axis, 0)
    fitted: Fitted = fit_palette(turned, given_scales(weight), choice, weight.rows)
    zero = {0} if choice.zero == "mapped" else set()
    return fitted.scale, [tuple(sorted({*table, *zero})) for table in fitted.palette.tables]


def widened(table: Table, count: int) -> list[float]:
    """`count` distinct levels: those of a table, and one in the middle of the widest gap again and again.

    A table is short where the baseline's weights needed no more entries; training may.
    """
    levels = sorted({-float(HIGHEST), *map(float, table), float(HIGHEST)})
    own = list(map(float, table))
    while len(own) < count:
        wide = max(range(len(levels) - 1), key=lambda i: levels[i + 1] - levels[i])
        middle = (levels[wide] + levels[wide + 1]) / 2
        levels.insert(wide + 1, middle)
        own.append(middle)
    return sorted(own)


def nearest(values: Tensor, levels: Tensor, owner: Tensor) -> Tensor:
    """The index of the nearest level to each value, of two equally near the lower, int64 [R, K].

    values: [R, K]; levels: [tables, E], ascending; owner: [R].
    """
    return count_below(values, (levels[:, 1:] + levels[:, :-1]) / 2, owner)


def _kind(
    weight: Weight, scale: Sequence[float], tables: Sequence[Table], rows: int, codes: np.ndarray
) -> TensorType:
    """The type of codes with these scales [R] and tables; for a zero map 0 is taken out of the tables."""
    assert weight.kind.quant is not None
    axis = weight.kind.quant.axis
    quant = Quant(tuple(scale) if axis is not None else tuple(scale[:1]), 0, axis)
    zeros: dict[str, Any] = {}
    if weight.choice.zero == "mapped":
        tables = [tuple(entry for entry in table if entry) or (1,) for table in tables]
        zeros = {"zeros": int((codes == 0).sum())}
    palette = Palette(weight.choice.bits, tuple(tables), rows, **zeros)
    return TensorType("i8", codes.shape, quant, palette)
