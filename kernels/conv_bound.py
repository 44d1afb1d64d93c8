"""Convolutions over arrays that keep their places: room for windows and results is made once."""

from functools import partial

import numpy as np

from nnaq.kernels.bound import Copy, Run, together
from nnaq.kernels.conv_layer import GATHERED, Layer, Plan
from nnaq.kernels.conv_loops import convolve, gather, spread
from nnaq.kernels.multiply import requantize_rows


def bind_layer(layer: Layer, x: np.ndarray, zero_x: int, plan: Plan, place: np.ndarray) -> Run:
    """What fills `place` [N, O, height, width] from codes x [N,C,H,W], as `Layer.run` does at once."""
    if not place.size:
        return lambda: None
    if not layer.takes_rows(len(x), plan):
        return _bind_positions(layer, x, zero_x, plan, place)
    if len(x) * len(plan.places) * len(plan.offsets) * layer.groups > GATHERED:
        return lambda: layer.run(x, zero_x, plan, place, place)
    return _bind_rows(layer, x, zero_x, plan, place)


def _bind_positions(layer: Layer, x: np.ndarray, zero_x: int, plan: Plan, place: np.ndarray) -> Run:
    image, flat = np.empty(len(x) * plan.size, layer.entry), place.reshape(-1)
    behind = *layer.scales_of_positions, layer.order, *layer.behind, plan.grid, flat
    loaded = image, len(x), layer.offsets(plan), layer.resting, *behind
    laid = partial(spread, x, *layer.laid(zero_x), plan.frame, image)
    return together([laid, partial(convolve, *loaded)])


def _bind_rows(layer: Layer, x: np.ndarray, zero_x: int, plan: Plan, place: np.ndarray) -> Run:
    count, outputs = len(x) * len(plan.places), len(layer.weight) // layer.groups
    rows = np.zeros((layer.groups, count, len(layer.offsets(plan))), layer.entry)
    windows = x, *layer.laid(zero_x), plan.frame, plan.offsets[: plan.depth], plan.places, rows
    runs: list[Run] = [partial(gather, *windows)]
    for g in range(layer.groups):
        chosen = slice(g * outputs, (g + 1) * outputs)
        scales, part = [scale[chosen] for scale in layer.scales], place[:, chosen]
        direct = part.flags.c_contiguous and count == len(x)
        codes = part.reshape(count, outputs) if direct else np.empty((count, outputs), place.dtype)
        product = rows[g], layer.panels, g, *scales, layer.order, *layer.behind, codes
        runs.append(partial(requantize_rows, *product))
        if not direct:
            shown = codes.reshape(len(x), *place.shape[2:], outputs).transpose(0, 3, 1, 2)
            runs.append(Copy(part, shown))
    return together(runs)
