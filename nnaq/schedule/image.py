"""The constants of a compiled step as one stretch of bytes in DRAM, palettes packed.

Pieces lie in the order in which they were asked for, each at an aligned address, so that what a
command fetches at once lies together.
"""

import numpy as np

from nnaq.ir.graph import Graph
from nnaq.ir.types import TensorType
from nnaq.schedule.actions import Stored
from nnaq.schedule.placement import aligned
from nnaq.schedule.rest import rest_bytes, to_bytes
from nnaq.schedule.tiling import Piece


class Image:
    """Addresses of pieces; the bytes are packed when they are asked for."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.pieces: dict[tuple[str, tuple[tuple[int, int], ...], TensorType], int] = {}
        self.bytes = 0

    def stored(self, piece: Piece) -> Stored:
        """Where a piece lies."""
        key = piece.constant, piece.part, piece.kind
        if key not in self.pieces:
            self.pieces[key] = self.bytes
            self.bytes += aligned(piece.bytes)
        return Stored(piece.kind, self.pieces[key])

    def pack(self) -> np.ndarray:
        """The image, uint8."""
        image = np.zeros(self.bytes, np.uint8)
        for (constant, part, kind), address in self.pieces.items():
            codes = self.graph.constants[constant][tuple(slice(*span) for span in part)]
            image[address : address + rest_bytes(kind)] = to_bytes(codes, kind)
        return image
