"""Indices in blocks, as kernels read them (kernels/machine/palettes.py has the layout), and back."""

import numpy as np

from nnaq.kernels.machine.palettes import BLOCK, planes


def blocks_of(indices: np.ndarray, bits: int) -> np.ndarray:
    """Rows [O, K] of indices as uint8 [O, ceil(K / BLOCK) * 4 * bits]; indices 0 stand for what lacks."""
    count = -(-indices.shape[1] // BLOCK)
    padded = np.zeros((len(indices), count, BLOCK), np.uint8)
    padded.reshape(len(indices), count * BLOCK)[:, : indices.shape[1]] = indices
    if bits == 8:
        return padded.reshape(len(indices), count * BLOCK)
    made, low = np.empty((len(indices), count, 4 * bits), np.uint8), 0
    for width in planes(bits):
        fields = (padded >> low & (1 << width) - 1).reshape(len(indices), count, 8 // width, 4 * width)
        places = np.arange(8 - width, -1, -width, dtype=np.uint8)[:, None]
        made[:, :, 4 * low : 4 * (low + width)] = (fields << places).sum(2, dtype=np.uint8)
        low += width
    return made.reshape(len(indices), count * 4 * bits)


def indices_of(blocks: np.ndarray, bits: int, depth: int) -> np.ndarray:
    """The indices [O, depth], uint8, of rows in blocks."""
    count = -(-depth // BLOCK)
    if bits == 8:
        return blocks[:, :depth]
    held = blocks.reshape(len(blocks), count, 4 * bits)
    indices, low = np.zeros((len(blocks), count, BLOCK), np.uint8), 0
    for width in planes(bits):
        plane = held[:, :, None, 4 * low : 4 * (low + width)]
        places = np.arange(8 - width, -1, -width, dtype=np.uint8)[:, None]
        fields = plane >> places & (1 << width) - 1
        indices |= fields.reshape(indices.shape) << np.uint8(low)
        low += width
    return indices.reshape(len(blocks), count * BLOCK)[:, :depth]
