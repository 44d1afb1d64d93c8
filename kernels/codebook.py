"""Weights that rest as bit-packed indices into tables of int8 codes: the packed form, and back.

    index j   bits j*b … (j+1)*b - 1 of a stream, lowest first, for b = 1 … 8 bits per index
    bit i     bit i mod 8 of byte i // 8, bit 0 being the lowest of a byte
    the end   ceil(n*b / 8) bytes for n indices; the bits behind the last index are 0

j counts the codes of a constant in the order of its memory (row-major); rows do not begin at a byte of
their own. The code of index j is tables[t][index], t the table of its row (entry of axis 0): row // rows,
or the only table where rows is 0. Nothing is rounded: packing fails on a code that is not in its table.

With a zero map a code 0 has no index. The map is a stream of n one-bit numbers in the same form, 1 where
the code is not 0, and the packed indices are those of the other codes alone, in the same order. Code j is
then found only behind all codes before it, so no kernel reads this form: what runs it unpacks it first.

`PackedCodes` is a constant without a zero map, handed to a kernel in the place of an array of codes
(kernels/packed_rows.py reads it). It holds the same indices with as many bits each, in another order: rows
in blocks that kernels expand 32 codes at a time, from which the stream is made when it is asked for.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from nnaq.errors import OpError
from nnaq.ir.types import Palette
from nnaq.kernels.packed_blocks import blocks_of, indices_of

WHOLE = 8  # bits of an index that is as long as its code


def packed_size(count: int, bits: int) -> int:
    """Bytes that `count` indices take.

    >>> packed_size(5, 3)
    2
    """
    return -(-count * bits // 8)


def pack_indices(indices: np.ndarray, bits: int) -> np.ndarray:
    """The stream of whole numbers 0 … 2^bits - 1 of any shape, as uint8 bytes.

    Raises OpError for an index that needs more bits.
    """
    flat = np.asarray(indices).reshape(-1)
    if flat.size and not 0 <= flat.min() <= flat.max() < 1 << bits:
        raise OpError(
            f"indices from {flat.min()} to {flat.max()} do not fit {bits} bits; they must lie in 0 … "
            f"{(1 << bits) - 1}"
        )
    each = np.unpackbits(flat.astype(np.uint8)[:, None], axis=1, count=bits, bitorder="little")
    return np.packbits(each, bitorder="little")


def unpack_indices(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """The first and only `count` indices of a stream, as uint8 [count].

    Raises OpError for a stream of another length, or one that does not end in 0 bits.
    """
    every = np.unpackbits(_stream(packed, bits, count), bitorder="little")
    if every[count * bits :].any():
        raise OpError(f"packed indices end in bits that are not 0 behind {count} indices of {bits} bits")
    each = every[: count * bits].reshape(count, bits)
    return np.packbits(each, axis=1, bitorder="little").reshape(count)


def pack_reference(indices: list[int], bits: int) -> bytes:
    """The same stream as one large whole number: index j stands at 2^(j*bits)."""
    whole = sum(index << (j * bits) for j, index in enumerate(indices))
    return whole.to_bytes(packed_size(len(indices), bits), "little")


def unpack_reference(packed: bytes, bits: int, count: int) -> list[int]:
    """The indices of that number."""
    whole = int.from_bytes(packed, "little")
    return [(whole >> (j * bits)) % (1 << bits) for j in range(count)]


def _stream(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """The bytes of a stream. Raises OpError where they are not as many as `count` indices take."""
    if packed.size != packed_size(count, bits):
        raise OpError(
            f"{count} indices of {bits} bits take {packed_size(count, bits)} bytes, found {packed.size}"
        )
    return np.asarray(packed, np.uint8).reshape(-1)


def table_array(palette: Palette) -> np.ndarray:
    """The tables as int8 [tables, 2^bits], a short one filled up with its last entry."""
    entries = 1 << palette.bits
    filled = [[*table, *[table[-1]] * (entries - len(table))] for table in palette.tables]
    return np.array(filled, np.int8)


def table_numbers(shape: tuple[int, ...], rows: int) -> np.ndarray:
    """Which table the codes of each row use, int64 [shape[0], 1]; a scalar is one row."""
    count = shape[0] if shape else 1
    numbers = np.arange(count, dtype=np.int64)[:, None]
    return numbers // rows if rows else numbers * 0


def find_indices(codes: np.ndarray, palette: Palette) -> np.ndarray:
    """The index of each code in the table of its row, uint8 in the shape of the codes; 0 for a mapped zero.

    Raises OpError: tables that do not fit the rows, a code that its table does not hold.
    """
    if not palette.admits(codes.shape):
        raise OpError(
            f"a palette of {len(palette.tables)} tables for {palette.rows} rows each does not fit codes of "
            f"shape {list(codes.shape)}"
        )
    if not codes.size:  # of which there may be any number of rows
        return np.zeros(codes.shape, np.uint8)
    positions = _positions(palette.tables)
    if palette.zeros is not None:
        positions[:, 128] = 0
    matrix = _matrix(codes)
    found = positions[table_numbers(codes.shape, palette.rows), matrix.astype(np.int64) + 128]
    if (found < 0).any():
        row, column = (int(place[0]) for place in np.nonzero(found < 0))
        table = palette.tables[palette.number(row)]
        raise OpError(
            f"the code {matrix[row, column]} of row {row} is not in its table "
            f"({', '.join(map(str, table))}); move codes to entries of their palette before packing them"
        )
    return np.asarray(found.astype(np.uint8).reshape(codes.shape))


def _positions(tables: Iterable[Sequence[int] | np.ndarray]) -> np.ndarray:
    """The first place of each int8 code c in the tables, int16 [tables, 256] at c + 128; -1 for none."""
    rows = []
    for table in tables:
        row = np.full(256, -1, np.int16)
        row[np.array(table[::-1], np.int64) + 128] = np.arange(len(table) - 1, -1, -1)
        rows.append(row)
    return np.array(rows)


def look_up(indices: np.ndarray, tables: np.ndarray, rows: int) -> np.ndarray:
    """The codes (int8) of indices, in their shape. tables: int8 [tables, 2^bits]; rows: as in a Palette."""
    if not indices.size:
        return np.zeros(indices.shape, np.int8)
    numbers = table_numbers(indices.shape, rows)
    return np.asarray(tables[numbers, _matrix(indices)].reshape(indices.shape))


def _matrix(codes: np.ndarray) -> np.ndarray:
    """Codes as [rows, rest]."""
    rows = codes.shape[0] if codes.ndim else 1
    return np.asarray(codes.reshape(rows, math.prod(codes.shape[1:])))


@dataclass(frozen=True, eq=False)
class PackedCodes:
    """A constant i8 operand as packed indices; what it shows of an array is what kernels ask of a weight.

    shape   of the codes
    bits    per index
    blocks  the indices of each row in blocks of 32, uint8 [rows, ceil(K / 32) * 4 * bits]; for 8 bits the
            codes themselves, which take no more (kernels/packed_blocks.py)
    tables  int8 [tables, 2^bits]
    rows    entries of axis 0 that share a table; 0: all of them
    """

    shape: tuple[int, ...]
    bits: int
    blocks: np.ndarray
    tables: np.ndarray
    rows: int = 0

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """How many codes there are."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of blocks and tables, indices behind the end of a row included."""
        return int(self.blocks.nbytes + self.tables.nbytes)

    @property
    def packed(self) -> np.ndarray:
        """The stream as it stands in a file, uint8 [ceil(codes * bits / 8)]."""
        return pack_indices(self._indices(), self.bits)

    def codes(self) -> np.ndarray:
        """The codes, int8."""
        if self.bits == WHOLE:
            return self._held().view(np.int8).reshape(self.shape)
        return look_up(self._indices().reshape(self.shape), self.tables, self.rows)

    def _held(self) -> np.ndarray:
        """What blocks hold of each row, uint8 [rows, K]."""
        return np.ascontiguousarray(indices_of(self.blocks, self.bits, math.prod(self.shape[1:])))

    def _indices(self) -> np.ndarray:
        held = self._held()
        if self.bits < WHOLE:
            return held
        numbers = table_numbers(self.shape, self.rows)
        found = _positions(self.tables)[numbers, held.view(np.int8).astype(np.int64) + 128]
        return np.asarray(found, np.uint8)


def pack_codes(codes: np.ndarray, palette: Palette) -> PackedCodes:
    """Codes (int8) in the packed form of a palette.

    Raises OpError: a palette with a zero map, which kernels do not read; otherwise as `find_indices`.
    """
    if palette.zeros is not None:
        raise OpError("codes with a zero map are packed by pack_zero_map; kernels do not read that form")
    indices = find_indices(codes, palette)
    held = codes.view(np.uint8) if palette.bits == WHOLE else indices
    blocks = blocks_of(_matrix(held), palette.bits)
    return PackedCodes(codes.shape, palette.bits, blocks, table_array(palette), palette.rows)


def unpack_codes(packed: np.ndarray, palette: Palette, shape: tuple[int, ...]) -> np.ndarray:
    """The codes (int8) of packed indices, one for each code. Raises OpError as `unpack_indices`."""
    indices = unpack_indices(packed, palette.bits, math.prod(shape)).reshape(shape)
    return look_up(indices, table_array(palette), palette.rows)


def pack_zero_map(codes: np.ndarray, palette: Palette) -> tuple[np.ndarray, np.ndarray]:
    """The zero map and the packed indices of the codes that are not 0, both uint8 bytes.

    Raises OpError where the palette counts other zeros; otherwise as `find_indices`.
    """
    indices, kept = find_indices(codes, palette), codes != 0
    _check_zeros(kept, palette)
    return pack_indices(kept, 1), pack_indices(indices[kept], palette.bits)


def unpack_zero_map(
    zero_map: np.ndarray, packed: np.ndarray, palette: Palette, shape: tuple[int, ...]
) -> np.ndarray:
    """The codes (int8) of a zero map and packed indices. Raises OpError where their sizes disagree."""
    kept = unpack_indices(zero_map, 1, math.prod(shape)).astype(bool).reshape(shape)
    _check_zeros(kept, palette)
    indices = np.zeros(shape, np.uint8)
    indices[kept] = unpack_indices(packed, palette.bits, int(np.count_nonzero(kept)))
    return np.where(kept, look_up(indices, table_array(palette), palette.rows), np.int8(0))


def _check_zeros(kept: np.ndarray, palette: Palette) -> None:
    found = int(kept.size - np.count_nonzero(kept))
    if found != palette.zeros:
        raise OpError(
            f"{found} codes are 0, the palette says {palette.zeros}; write the palette of these codes"
        )
