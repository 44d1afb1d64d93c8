"""Codes as bytes at rest, and back.

    whole bytes  as NumPy holds them, little end first
    i4           two in a byte, the first in the low half
    i48          six bytes each, the low one first
    palette      tables (each as long as the longest, filled up with its last entry), then the zero map
                 if there is one, then the packed indices (nnaq.kernels.codebook)

As many bytes as nnaq.cost.footprint counts.
"""

from math import prod

import numpy as np

from nnaq.codebooks.storage import longest_table, palette_bytes
from nnaq.ir.types import Palette, TensorType, bits, storage
from nnaq.kernels.codebook import (
    find_indices,
    look_up,
    pack_indices,
    pack_zero_map,
    packed_size,
    table_array,
    unpack_indices,
)
from nnaq.schedule.places import is_whole_bytes
from nnaq.targets.gemm import sizes


def rest_bytes(kind: TensorType) -> int:
    """Bytes that codes of a type take at rest, its palette included."""
    if kind.palette is not None:
        return palette_bytes(prod(sizes(kind)), kind.palette).total
    return packed_size(prod(sizes(kind)), bits(kind.dtype))


def to_bytes(codes: np.ndarray, kind: TensorType) -> np.ndarray:
    """The bytes (uint8) of codes at rest. Raises OpError for a code that its palette does not hold."""
    if kind.palette is not None:
        return _palette_bytes(np.ascontiguousarray(codes, np.int8), kind.palette)
    if kind.dtype == "i4":
        return pack_indices(np.asarray(codes, np.int8) & 15, 4)
    plain = np.ascontiguousarray(codes, storage(kind.dtype)).reshape(-1)
    if kind.dtype == "i48":
        return plain.view(np.uint8).reshape(-1, 8)[:, :6].reshape(-1)
    return plain.view(np.uint8)


def from_bytes(held: np.ndarray, kind: TensorType) -> np.ndarray:
    """The codes that bytes (uint8, one behind the other) stand for; a view where they are whole bytes."""
    shape = sizes(kind)
    if kind.palette is not None:
        return _palette_codes(held, kind.palette, shape)
    if kind.dtype == "i4":
        half = unpack_indices(held, 4, prod(shape)).astype(np.int8)
        return np.asarray(((half ^ 8) - 8).reshape(shape), np.int8)
    if kind.dtype == "i48":
        six = held.reshape(-1, 6)
        sign = np.where(six[:, 5:] & 128, np.uint8(255), np.uint8(0))
        return np.hstack([six, sign, sign]).view(np.int64).reshape(shape)
    assert is_whole_bytes(kind)
    return held.view(storage(kind.dtype)).reshape(shape)


def _palette_bytes(codes: np.ndarray, palette: Palette) -> np.ndarray:
    tables = table_array(palette)[:, : longest_table(palette)].reshape(-1).view(np.uint8)
    if palette.zeros is None:
        return np.concatenate([tables, pack_indices(find_indices(codes, palette), palette.bits)])
    return np.concatenate([tables, *pack_zero_map(codes, palette)])


def _palette_codes(held: np.ndarray, palette: Palette, shape: tuple[int, ...]) -> np.ndarray:
    """By the tables in the bytes themselves, not by those of the type."""
    count, size, longest = prod(shape), palette_bytes(prod(shape), palette), longest_table(palette)
    tables = held[: size.table].view(np.int8).reshape(-1, longest)
    tables = np.pad(tables, ((0, 0), (0, (1 << palette.bits) - longest)), "edge")
    mapped, packed = held[size.table : size.table + size.map], held[size.table + size.map :]
    if palette.zeros is None:
        return look_up(unpack_indices(packed, palette.bits, count).reshape(shape), tables, palette.rows)
    kept = unpack_indices(mapped, 1, count).astype(bool)
    indices = np.zeros(count, np.uint8)
    indices[kept] = unpack_indices(packed, palette.bits, int(kept.sum()))
    codes = look_up(indices.reshape(shape), tables, palette.rows)
    return np.where(kept.reshape(shape), codes, np.int8(0))
