"""Convolutions as tables: how an input is laid out, where windows find their entries, and which loop runs.

Two loops give the same codes. Positions are lanes where there are many (`convolve`): no copy of windows, and
weights widened from where they rest. Outputs are lanes where there are few, as in a streaming step: windows
are rows, multiplied by panels of the weight as in a fully connected layer (kernels/multiply.py); the panels
are made when they are first needed. Narrow accumulators, whose order of products counts, always take rows.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nnaq.kernels.codebook import PackedCodes
from nnaq.kernels.conv_loops import ALONE, Frame, Grid, convolve, gather, spread
from nnaq.kernels.machine.products import PANEL
from nnaq.kernels.multiply import requantize_rows
from nnaq.kernels.narrow import Order
from nnaq.kernels.packed_rows import NOT_PACKED, packed_rows
from nnaq.kernels.weight_panels import FLIP, FOUR, Weights, starts_of, weights_of

NO_CODES = np.empty((0, 0), np.int8)
COST_OF_ROWS = 1.25  # of a product where windows are copied, against one where positions are lanes
MOST_GROUPS = 8  # whose rows are worth a call each
GATHERED = 1 << 21  # entries of windows that are copied at a time


@dataclass(frozen=True)
class Plan:
    """One convolution over inputs of one size: the frame of its image, a window's entries, and the grid.

    offsets: i64 [K], one more where K is odd; grid: of every image, as `convolve` takes it.
    """

    frame: Frame
    channels: int
    depth: int
    offsets: np.ndarray
    grid: Grid

    @cached_property
    def places(self) -> np.ndarray:
        """The entry of the image at which the window of each position begins, i64 [positions]."""
        rows, columns = np.arange(self.grid.height), np.arange(self.grid.width)
        return (self.grid.start + rows[:, None] * self.grid.pitch + columns).reshape(-1)

    @cached_property
    def fours(self) -> np.ndarray:
        """The offsets, up to a multiple of four."""
        return np.append(self.offsets, np.repeat(self.offsets[-1:], -len(self.offsets) % FOUR))

    @property
    def size(self) -> int:
        """Entries of an image."""
        return self.channels * self.frame.plane


def even_offsets(*parts: np.ndarray) -> tuple[int, np.ndarray]:
    """K, and the sums of offsets over all axes of a window [C/G, KH, KW], evened out."""
    channels, rows, columns = parts
    offsets = (channels[:, None, None] + rows[:, None] + columns).reshape(-1)
    return len(offsets), np.append(offsets, offsets[-1:]) if len(offsets) % 2 else offsets


@dataclass(frozen=True)
class Layer:
    """What all convolutions of a node share.

    weight: codes [O, ...], packed or not; scales: bias, multiplier and shift [O]; behind: rounding,
    zero_point, lowest and highest code of the result.
    """

    weight: np.ndarray | PackedCodes
    zero_point: int
    groups: int
    scales: tuple[np.ndarray, ...]
    order: Order
    behind: tuple[int, int, int, int]
    zero_x: int | None = None  # of activations that may stay bytes, as `weights_of` takes it

    @cached_property
    def in_bytes(self) -> bool:
        """Whether products are made of bytes; a few outputs of a group are not worth weaving them."""
        admitted = self.zero_x is not None and self.zero_point == 0 and isinstance(self.weight, np.ndarray)
        return admitted and len(self.weight) // self.groups > ALONE

    @property
    def entry(self) -> type[np.uint8 | np.int16]:
        """Of an image."""
        return np.uint8 if self.in_bytes else np.int16

    def laid(self, zero_x: int) -> tuple[int, int]:
        """What is taken off the codes in an image, and what stands around them."""
        return (-FLIP, zero_x + FLIP) if self.in_bytes else (zero_x, 0)

    def offsets(self, plan: Plan) -> np.ndarray:
        """Those of a plan, as many as lanes sum at once."""
        return plan.fours if self.in_bytes else plan.offsets

    @cached_property
    def resting(self) -> tuple[Any, ...]:
        """The weight as `convolve` takes it."""
        outputs, zero = len(self.weight) // self.groups, self.zero_point
        depth = math.prod(self.weight.shape[1:])
        if isinstance(self.weight, PackedCodes):
            return NO_CODES, packed_rows(self.weight), zero, outputs, depth
        codes = np.ascontiguousarray(self.weight).reshape(len(self.weight), depth)
        return codes, NOT_PACKED, zero, outputs, depth

    @cached_property
    def panels(self) -> Weights:
        """The weight as products of rows take it."""
        zero_x = self.zero_x if self.in_bytes else None
        return weights_of(self.weight, self.zero_point, self.groups, zero_x)

    @cached_property
    def scales_of_positions(self) -> tuple[np.ndarray, ...]:
        """The scales where positions are lanes: a bias of bytes begins sums, right modulo 2^32."""
        bias, *rescale = self.scales
        if self.in_bytes:
            matrix = np.asarray(self.weight).reshape(1, len(self.weight), -1)
            bias = bias + starts_of(matrix, self.zero_x or 0)[0]
        return bias, *rescale

    def takes_rows(self, images: int, plan: Plan) -> bool:
        """Whether fewer products are made with outputs as lanes than with positions as lanes."""
        if self.order.block:
            return True
        outputs, grid = len(self.weight) // self.groups, plan.grid
        lanes = images * _up((grid.height - 1) * grid.pitch + grid.width) * outputs
        rows = COST_OF_ROWS * images * grid.height * grid.width * _up(outputs)
        return self.groups <= MOST_GROUPS and rows < lanes

    def run(self, x: np.ndarray, zero_x: int, plan: Plan, target: np.ndarray, out: np.ndarray) -> None:
        """Fill `target` [N, O, height, width], a part of `out`, from codes x [N,C,H,W]."""
        if self.takes_rows(len(x), plan):
            self.run_rows(x, zero_x, plan, target)
        else:
            image = np.empty(len(x) * plan.size, self.entry)
            spread(x, *self.laid(zero_x), plan.frame, image)
            bias, multiplier, shift = self.scales_of_positions
            convolve(
                image, len(x), self.offsets(plan), self.resting, bias, multiplier, shift, self.order,
                *self.behind, plan.grid, out.reshape(-1),
            )  # fmt: skip

    def run_rows(self, x: np.ndarray, zero_x: int, plan: Plan, target: np.ndarray) -> None:
        """The same with windows as rows, some images at a time."""
        positions, width = len(plan.places), len(self.offsets(plan))
        block = max(1, GATHERED // max(1, positions * width * self.groups))
        for first in range(0, len(x), block):
            part = x[first : first + block]
            rows = np.zeros((self.groups, len(part) * positions, width), self.entry)
            laid = self.laid(zero_x)
            gather(part, *laid, plan.frame, plan.offsets[: plan.depth], plan.places, rows)
            self.multiply(rows, len(part), target[first : first + block])

    def multiply(self, rows: np.ndarray, images: int, target: np.ndarray) -> None:
        """Fill `target` from the windows of some images, group by group."""
        count, outputs = rows.shape[1], len(self.weight) // self.groups
        direct = self.groups == 1 and count == images and target.flags.c_contiguous
        for g in range(self.groups):
            chosen = slice(g * outputs, (g + 1) * outputs)
            codes = target.reshape(count, outputs) if direct else np.empty((count, outputs), target.dtype)
            bias, multiplier, shift = [part[chosen] for part in self.scales]
            requantize_rows(rows[g], self.panels, g, bias, multiplier, shift, self.order, *self.behind, codes)
            if not direct:
                target[:, chosen] = codes.reshape(images, *target.shape[2:], outputs).transpose(0, 3, 1, 2)


def _up(count: int) -> int:
    """To whole panels."""
    return -(-count // PANEL) * PANEL
