"""Where a value lies in a buffer: its first byte, and the steps between its entries.

A value of whole bytes may lie in steps, as a slice or as one part of what a concat joins. Packed
codes (i4, i48, palettes) lie one behind the other only.
"""

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from nnaq.ir.types import TensorType, bits, storage
from nnaq.targets.gemm import sizes


@dataclass(frozen=True)
class Place:
    """`offset`: bytes from the start of buffer `buffer`; strides: bytes per step of each axis.

    strides is None where the entries lie one behind the other, packed if their dtype is.
    """

    buffer: str
    offset: int = 0
    strides: tuple[int, ...] | None = None


def is_whole_bytes(kind: TensorType) -> bool:
    """Whether each entry rests in bytes of its own, as NumPy holds it."""
    return kind.palette is None and bits(kind.dtype) == 8 * storage(kind.dtype).itemsize


def packed_strides(kind: TensorType) -> tuple[int, ...]:
    """Bytes per step of each axis of entries one behind the other."""
    shape, size = sizes(kind), storage(kind.dtype).itemsize
    return tuple(size * prod(shape[axis + 1 :]) for axis in range(len(shape)))


def strides_of(kind: TensorType, place: Place) -> tuple[int, ...]:
    return packed_strides(kind) if place.strides is None else place.strides


def cut(
    kind: TensorType, place: Place, axis: int, start: int, stop: int, step: int = 1
) -> tuple[TensorType, Place]:
    """Entries start, start + step, … before stop of an axis of a value of whole bytes."""
    strides = list(strides_of(kind, place))
    offset = place.offset + start * strides[axis]
    strides[axis] *= step
    shape = list(sizes(kind))
    shape[axis] = len(range(start, stop, step))
    smaller = kind.with_shape(tuple(shape))
    return smaller, simplified(smaller, replace(place, offset=offset, strides=tuple(strides)))


def simplified(kind: TensorType, place: Place) -> Place:
    """The same place, without strides where the entries lie one behind the other."""
    plain, shape = packed_strides(kind), sizes(kind)
    found = strides_of(kind, place)
    is_packed = all(size == 1 or a == b for size, a, b in zip(shape, found, plain, strict=True))
    return replace(place, strides=None) if is_packed else place


def extent(kind: TensorType, place: Place, packed_bytes: int) -> tuple[int, int]:
    """The first byte of a value, and the one behind its last."""
    if place.strides is None:
        return place.offset, place.offset + packed_bytes
    shape, size = sizes(kind), np.dtype(storage(kind.dtype)).itemsize
    if 0 in shape:
        return place.offset, place.offset
    reach = [(count - 1) * stride for count, stride in zip(shape, place.strides, strict=True)]
    return place.offset + sum(min(r, 0) for r in reach), place.offset + sum(max(r, 0) for r in reach) + size
