"""Constants that rest in memory as palette indices.

In the file such a constant is two initializers, `NAME:indices` (UINT4 up to four bits, else
UINT8) and `NAME:table` (INT8), joined by a node `unpack_palette` that makes NAME.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nnaq.errors import ArtifactError
from nnaq.export.body_builder import DOMAIN, Body
from nnaq.ir.graph import Graph
from nnaq.ir.types import Palette

UNPACK = "unpack_palette"


def palettes(graph: Graph) -> dict[str, Palette]:
    """The palettes of the constants that have one."""
    kinds = {name: graph.types[name].palette for name in graph.constants}
    return {name: palette for name, palette in kinds.items() if palette is not None}


def pack(name: str, codes: np.ndarray, palette: Palette) -> list[onnx.TensorProto]:
    """The two initializers of a constant with a palette."""
    position = {code: index for index, code in reversed(list(enumerate(palette.table)))}
    foreign = sorted(set(np.unique(codes).tolist()) - position.keys())
    if foreign:
        raise ArtifactError(f"constant {name!r} holds the code {foreign[0]}, which is not in its palette")
    indices = [position[code] for code in codes.reshape(-1).tolist()]
    element = TensorProto.UINT4 if palette.bits <= 4 else TensorProto.UINT8
    return [
        helper.make_tensor(f"{name}:indices", element, codes.shape, indices),
        numpy_helper.from_array(np.array(palette.table, np.int8), f"{name}:table"),
    ]


def unpack(indices: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The codes of packed indices."""
    codes: np.ndarray = table[indices.astype(np.int64)]
    return codes


def unpack_nodes(graph: Graph) -> list[onnx.NodeProto]:
    """One node per constant with a palette."""
    return [
        helper.make_node(
            UNPACK, [f"{name}:indices", f"{name}:table"], [name], f"{name}:unpack", domain=DOMAIN
        )
        for name in palettes(graph)
    ]


def unpack_functions(graph: Graph) -> list[onnx.FunctionProto]:
    """The bodies `unpack_palette` needs in this graph: one for UINT4 and UINT8 alike."""
    if not palettes(graph):
        return []
    body = Body()
    codes = body.take("table", body.wide("indices"), 0)
    doc = "codes = table[indices]: how a palette constant becomes i8"
    return [body.function(UNPACK, ["indices", "table"], [codes], [], doc)]
