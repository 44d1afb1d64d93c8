"""A transposed convolution as ordinary ones, a phase of positions each.

Along an axis a position p of the result meets tap k where p + begin - k*dilation is a multiple of the stride.
With p + begin = stride*u + f that is every tap of the phase f = k*dilation mod stride, and it brings entry
u - k*dilation div stride of x: neighbouring u see neighbouring entries, as in a convolution of stride 1.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np

from nnaq.ir.dims import Dim, add, multiply
from nnaq.kernels.conv_layer import Plan, even_offsets
from nnaq.kernels.conv_loops import Grid, frame_of


@dataclass(frozen=True)
class Axis:
    """How taps meet entries along one spatial axis."""

    kernel: int
    stride: int
    dilation: int
    begin: int
    end: int
    extra: int

    @property
    def extent(self) -> int:
        """Entries from the first tap to the last."""
        return (self.kernel - 1) * self.dilation + 1

    def over(self, dim: Dim) -> Dim:
        """Size of the result; never negative where it is known."""
        fixed = self.extent - self.stride + self.extra - self.begin - self.end
        size = add(multiply(dim, self.stride), fixed)
        return max(size, 0) if isinstance(size, int) else size

    def size(self, entries: int) -> int:
        return int(self.over(entries))

    def source(self, position: int, tap: int, entries: int) -> int | None:
        """The entry of x that a tap brings to a position of y, if any."""
        i, rest = divmod(position + self.begin - tap * self.dilation, self.stride)
        return i if rest == 0 and 0 <= i < entries else None


@dataclass(frozen=True)
class Phase:
    """Positions of one axis that meet the same taps; back: entries between u and what each tap brings."""

    axis: Axis
    number: int

    @property
    def taps(self) -> list[int]:
        axis = self.axis
        return [k for k in range(axis.kernel) if k * axis.dilation % axis.stride == self.number]

    @property
    def back(self) -> np.ndarray:
        return np.array([k * self.axis.dilation // self.axis.stride for k in self.taps], np.int64)

    @property
    def first(self) -> int:
        """The first u with a position that is not negative."""
        return -((self.number - self.axis.begin) // self.axis.stride)

    def count(self, entries: int) -> int:
        """Positions for so many entries of x."""
        last = self.axis.size(entries) - 1 + self.axis.begin - self.number
        return max(0, last // self.axis.stride - self.first + 1)

    @property
    def position(self) -> int:
        """The first position of the result."""
        return self.first * self.axis.stride + self.number - self.axis.begin


Pair = tuple[Phase, Phase]


def phases_of(axes: tuple[Axis, ...]) -> list[Pair]:
    """All phases of two axes."""
    each = ([Phase(axis, f) for f in range(axis.stride)] for axis in axes)
    return list(product(*each))  # type: ignore[arg-type]


def codes_of(weight: np.ndarray, phase: Pair, groups: int, zero_point: int) -> np.ndarray:
    """The weight [C, O/G, KH, KW] as that of a convolution of one phase, [O, C/G, taps, taps].

    A phase that no tap meets has one entry that weighs nothing.
    """
    (rows, columns), (channels, outputs) = (p.taps for p in phase), weight.shape[:2]
    if not rows or not columns:
        return np.full((groups * outputs, 1, 1, 1), zero_point, weight.dtype)
    chosen = weight[:, :, rows][:, :, :, columns]
    split = chosen.reshape(groups, channels // groups, outputs, len(rows), len(columns)).swapaxes(1, 2)
    return np.ascontiguousarray(split.reshape(groups * outputs, -1, len(rows), len(columns)))


def plan_of(axes: tuple[Axis, ...], phase: Pair, channels: int, groups: int, sizes: tuple[int, int]) -> Plan:
    """How an input [N, channels, *sizes] is laid out for a phase, and where windows find their entries."""
    counts = [p.count(n) for p, n in zip(phase, sizes, strict=True)]
    reach = [int(p.back.max(initial=0)) for p in phase]
    lengths = [max(count, 1) + far for count, far in zip(counts, reach, strict=True)]
    frame = frame_of((lengths[0], lengths[1]), (1, 1), (reach[0] - phase[0].first, reach[1] - phase[1].first))
    plane, pitch, inner = frame.plane, frame.pitch, channels // groups
    height, width = (axis.size(n) for axis, n in zip(axes, sizes, strict=True))
    first = phase[0].position * width + phase[1].position
    grid = Grid(
        counts[0], counts[1], pitch, reach[0] * pitch + reach[1], channels * plane, inner * plane,
        first, axes[0].stride * width, axes[1].stride, height * width,
    )  # fmt: skip
    back = [p.back for p in phase]
    if not all(map(len, back)):
        depth, offsets = even_offsets(*[np.zeros(1, np.int64)] * 3)
    else:
        depth, offsets = even_offsets(np.arange(inner) * plane, -back[0] * pitch, -back[1])
    return Plan(frame, channels, depth, offsets, grid)
