"""Constants that rest in memory as palette indices, in the file.

Such a constant is two or three initializers, and a node `unpack_palette…` that makes NAME of them:

    NAME:indices   4 bits: UINT4, 8 bits: UINT8, in the shape of the constant;
                   other widths: UINT8 [bytes], packed as kernels/codebook.py does
    NAME:table     INT8 [tables, entries], short tables filled up with their last entry
    NAME:zeros     UINT8 [bytes], with a zero map only: a packed bit per code, 1 where it is not 0;
                   the indices are then one row, of the other codes alone

so that the file holds every index in its own bits. Two bits could be UINT2, which ONNX has from opset
25 on; in the opset of our files neither its checker nor ONNX Runtime 1.32 takes it.
"""

from math import prod

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from nnaq.codebooks.storage import longest_table, per_table
from nnaq.errors import ArtifactError, NnaqError, OpError
from nnaq.export.bodies_palette import ATTRIBUTES, unpacking
from nnaq.export.body_builder import DOMAIN
from nnaq.ir.graph import Graph
from nnaq.ir.types import Palette
from nnaq.kernels.codebook import (
    find_indices,
    pack_indices,
    pack_zero_map,
    table_array,
    unpack_codes,
    unpack_indices,
    unpack_zero_map,
)

UNPACK = "unpack_palette"
ELEMENTS = {4: TensorProto.UINT4, 8: TensorProto.UINT8}
"""Widths that a tensor has an element for; all others are packed bytes."""


def palettes(graph: Graph) -> dict[str, Palette]:
    """The palettes of the constants that have one, by name: a file is the same whatever came first."""
    kinds = {name: graph.types[name].palette for name in sorted(graph.constants)}
    return {name: palette for name, palette in kinds.items() if palette is not None}


def pack(name: str, codes: np.ndarray, palette: Palette) -> list[onnx.TensorProto]:
    """The initializers of a constant with a palette. Raises ArtifactError for codes it does not hold."""
    try:
        indices, zeros = _packed(codes, palette)
    except OpError as error:
        raise ArtifactError(f"constant {name!r} cannot be packed: {error}") from error
    tables = np.ascontiguousarray(table_array(palette)[:, : longest_table(palette)])
    tensors = [_elements(f"{name}:indices", indices, codes.shape, palette)]
    tensors.append(numpy_helper.from_array(tables, f"{name}:table"))
    return tensors if zeros is None else [*tensors, numpy_helper.from_array(zeros, f"{name}:zeros")]


def _packed(codes: np.ndarray, palette: Palette) -> tuple[np.ndarray, np.ndarray | None]:
    """Packed indices, and the packed zero map if the palette has one."""
    if palette.zeros is None:
        return pack_indices(find_indices(codes, palette), palette.bits), None
    zeros, indices = pack_zero_map(codes, palette)
    return indices, zeros


def _elements(name: str, packed: np.ndarray, shape: tuple[int, ...], palette: Palette) -> onnx.TensorProto:
    """Packed indices as a tensor; ONNX packs two UINT4 to a byte, the first in its low half, as we do."""
    if palette.bits not in ELEMENTS:
        return numpy_helper.from_array(packed, name)
    if palette.zeros is not None:
        shape = (prod(shape) - palette.zeros,)
    return helper.make_tensor(name, ELEMENTS[palette.bits], shape, packed.tobytes(), raw=True)


def unpack_nodes(graph: Graph) -> list[onnx.NodeProto]:
    """One node per constant with a palette."""
    return [
        _unpack_node(name, graph.constants[name].shape, palette) for name, palette in palettes(graph).items()
    ]


def _unpack_node(name: str, shape: tuple[int, ...], palette: Palette) -> onnx.NodeProto:
    operands = [f"{name}:indices", f"{name}:table"]
    operands += [] if palette.zeros is None else [f"{name}:zeros"]
    node = helper.make_node(_form(palette), operands, [name], f"{name}:unpack", domain=DOMAIN)
    node.attribute.append(helper.make_attribute("shape", shape, attr_type=AttributeProto.INTS))
    node.attribute.append(helper.make_attribute("bits", palette.bits))
    node.attribute.append(helper.make_attribute("per_table", per_table(shape, palette)))
    return node


def unpack_functions(graph: Graph) -> list[onnx.FunctionProto]:
    """The bodies that unpacking needs in this graph: one for each form its constants have."""
    forms = {_form(palette): palette for palette in palettes(graph).values()}
    return [
        unpacking(form, palette.bits not in ELEMENTS, palette.zeros is not None)
        for form, palette in sorted(forms.items(), key=lambda item: item[0])
    ]


def _form(palette: Palette) -> str:
    """The function of a palette: `unpack_palette`, `…_bits` for packed bytes, `…_zeros` with a zero map."""
    bits = "" if palette.bits in ELEMENTS else "_bits"
    return UNPACK + bits + ("" if palette.zeros is None else "_zeros")


def unpack_constants(model: onnx.ModelProto, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a file by constant name: packed ones give way to their codes.

    Raises ArtifactError where they are not what `pack` writes.
    """
    found = dict(arrays)
    for node in model.graph.node:
        if node.domain == DOMAIN and node.op_type.startswith(UNPACK):
            try:
                if missing := [name for name in node.input if name not in found]:
                    raise OpError(f"no tensor is called {', '.join(missing)}")
                (made,) = node.output
                found[made] = _codes([found.pop(name) for name in node.input], *_attributes(node))
            except (NnaqError, ValueError, OverflowError) as error:
                raise ArtifactError(
                    f"the palette of {', '.join(node.output)!r} cannot be unpacked: {error}; write it anew"
                ) from error
    return found


def _attributes(node: onnx.NodeProto) -> tuple[list[int], int, int]:
    """shape, bits and per_table. Raises OpError where there are others, or of other types."""
    kinds = {attribute.name: attribute.type for attribute in node.attribute}
    if kinds != dict(
        zip(ATTRIBUTES, (AttributeProto.INTS, AttributeProto.INT, AttributeProto.INT), strict=True)
    ):
        raise OpError(f"its node has attributes {sorted(kinds)}, expected whole numbers {sorted(ATTRIBUTES)}")
    shape, bits, per_table = (
        next(helper.get_attribute_value(a) for a in node.attribute if a.name == name) for name in ATTRIBUTES
    )
    return list(shape), bits, per_table


def _codes(arrays: list[np.ndarray], shape: list[int], bits: int, per_table: int) -> np.ndarray:
    """The codes that indices, tables and a zero map make. Raises OpError where they do not fit each other.

    Nothing of the size that `shape` claims is made before the stored bytes have been found to be as many.
    """
    if not 1 <= bits <= 8 or min(shape, default=1) < 0 or len(arrays) not in (2, 3):
        raise OpError(f"no constant has shape {shape}, {bits} bits and {len(arrays)} tensors")
    indices, tables, *zeros = arrays
    if tables.dtype != np.int8 or tables.ndim != 2 or not tables.size:
        raise OpError(f"tables are int8 [tables, entries], found {tables.dtype} {list(tables.shape)}")
    packed = _bytes_of(f"{bits}-bit indices", indices, bits if bits in ELEMENTS else 8)
    packed = pack_indices(packed, bits) if bits in ELEMENTS else packed
    rows = _rows_of(shape, len(tables), per_table)
    short = tuple(tuple(dict.fromkeys(table)) for table in tables.tolist())
    if not zeros:
        return unpack_codes(packed, Palette(bits, short, rows), tuple(shape))
    zero_map = _bytes_of("zero map", zeros[0], 8)
    kept = int(np.count_nonzero(unpack_indices(zero_map, 1, prod(shape))))
    palette = Palette(bits, short, rows, prod(shape) - kept)
    return unpack_zero_map(zero_map, packed, palette, tuple(shape))


def _bytes_of(what: str, stored: np.ndarray, width: int) -> np.ndarray:
    """Stored numbers, a uint8 each. Raises OpError for elements of another width."""
    if stored.dtype.name != f"uint{width}":
        raise OpError(f"the tensor of its {what} has elements of type uint{width}, found {stored.dtype}")
    return stored.astype(np.uint8)


def _rows_of(shape: list[int], tables: int, per_table: int) -> int:
    """How many rows share a table, by how many codes do. Raises OpError where the tables are too few."""
    count, row = prod(shape), prod(shape[1:])
    if per_table < 1 or (count and (tables - 1) * per_table >= count) or tables * per_table < count:
        raise OpError(f"{tables} tables for {per_table} codes each do not fit {count} codes")
    if tables == 1:
        return 0
    if count and per_table % row:
        raise OpError(f"{per_table} codes that share a table are no whole rows of shape {shape}")
    return per_table // row if count else -(-shape[0] // tables)
