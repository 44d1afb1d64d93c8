"""Cycles of a matrix product on a MAC array.

    array  = folds * fold * repeats + fills * fill, per product of M positions, N outputs, depth K
    fold   = max(T * cycles_per_step * passes, load)
    load   = ceil(weights of a fold / weights_per_cycle) + turnaround_cycles, where the target gives the rate

    output stationary   folds = ceil(M/(R*P)) * ceil(N/C),  T = K,          fill R + C - 2
    weight stationary   folds = ceil(K/R) * ceil(N/C),      T = ceil(M/P),  fill R + C - 2, and R more to
                        load the weights where nothing hides the load

R rows, C columns, P positions, which on a map are tiles of `position_rows` rows: what a tile has beyond
the edge stays idle, T = maps * ceil(height / rows of a tile) * ceil(width / columns of a tile). A fold
holds R * C weights where weights are stationary, and K * C pass through it where sums are. Products of
one output each, repeated over groups, run C groups at once, each with `depthwise_rows` terms per step,
where the target says so: folds = ceil(K/depthwise_rows) * ceil(groups/C). K is padded per tap of a
convolution where `channel_block` is given: a step takes R terms of one tap, or blocks of channels of
R / channel_block taps, whichever needs fewer folds. A dilation of the window beyond `max_dilation` runs
as taps of zero in between: the largest divisor of it up to there stays a dilation.

A double-buffered array pays its fill once per product, and once per repeat where each repeat waits
for the last (the recurrent product of an LSTM); otherwise it pays at every fold. The model lies
between two published limits: hidden altogether (ZigZag's temporal mapping, folds * T) and paid at
every fold (SCALE-Sim, folds * (T + fill) - 1).
"""

from math import ceil, prod
from typing import Literal

from nnaq.targets import Array, Dataflow, Gemm

Fills = Literal["hidden", "once", "per_fold"]


def array_cycles(
    gemm: Gemm, rows: int, columns: int, dataflow: Dataflow, fills: Fills = "once", passes: int = 1
) -> int:
    """Cycles of a product on a plain array of rows x columns; `passes` per MAC."""
    return product_cycles(gemm, Array(rows, columns, dataflow, True, ()), fills, passes)


def product_cycles(gemm: Gemm, array: Array, fills: Fills | None = None, passes: int | None = None) -> int:
    """Cycles of a product on an array; fills and passes as the array has them unless given."""
    fills = fills or ("once" if array.double_buffered else "per_fold")
    passes = array.passes(gemm.left, gemm.right) if passes is None else passes
    folds, length = folds_and_length(gemm, array)
    repeats = 1 if side_by_side(gemm, array) else gemm.repeats
    steps = length * array.cycles_per_step * passes
    running = folds * max(steps, _load_cycles(gemm, array)) * repeats
    fill = array.rows + array.columns - 2
    if fills == "per_fold":
        load = array.rows if array.dataflow == "weight_stationary" else 0
        return running + folds * repeats * (fill + load)
    return running + (fill * (repeats if gemm.waits else 1) if fills == "once" else 0)


def folds_and_length(gemm: Gemm, array: Array) -> tuple[int, int]:
    """How often a product folds onto the array, and the steps T of one fold."""
    if side_by_side(gemm, array):
        assert array.depthwise_rows is not None
        depth = _taps(gemm, array) * (gemm.depth // gemm.taps)
        across = ceil(depth / array.depthwise_rows) * ceil(gemm.repeats / array.columns)
        return across, _steps(gemm, array)
    columns = ceil(gemm.outputs / array.columns)
    if array.dataflow == "output_stationary":
        depth = _taps(gemm, array) * (gemm.depth // gemm.taps)
        return ceil(gemm.positions / (array.rows * array.positions)) * columns, depth
    return _depth_folds(gemm, array) * columns, _steps(gemm, array)


def _steps(gemm: Gemm, array: Array) -> int:
    """Steps that take all positions: of a map, tiles of its rows and columns."""
    *above, width = gemm.extent or (gemm.positions,)
    rows = array.position_rows if prod(above) > 1 else 1
    maps = gemm.positions // max(1, prod(gemm.extent)) if gemm.extent else 1
    return maps * ceil(prod(above) / rows) * ceil(width / (array.positions // rows))


def side_by_side(gemm: Gemm, array: Array) -> bool:
    """Whether the groups of a product share the array, a column each."""
    return array.depthwise_rows is not None and gemm.outputs == 1 and gemm.repeats > 1 and not gemm.waits


def _depth_folds(gemm: Gemm, array: Array) -> int:
    """Folds that the terms of a sum take where weights are stationary."""
    taps, channels = _taps(gemm, array), gemm.depth // gemm.taps
    if array.channel_block is None:
        return ceil(taps * channels / array.rows)
    blocks = ceil(taps * array.channel_block / array.rows) * ceil(channels / array.channel_block)
    return min(taps * ceil(channels / array.rows), blocks)


def _taps(gemm: Gemm, array: Array) -> int:
    """Taps that the window runs with: its own, and zeros where its dilation is too far."""
    return prod(_stretched(taps, dilation, array.max_dilation) for taps, dilation in gemm.window)


def _stretched(taps: int, dilation: int, limit: int | None) -> int:
    if limit is None:
        return taps
    kept = max(step for step in range(1, limit + 1) if dilation % step == 0)
    return (taps - 1) * (dilation // kept) + 1


def _load_cycles(gemm: Gemm, array: Array) -> int:
    """Cycles until the weights of a fold are in their cells, while the fold before runs."""
    if array.weights_per_cycle is None:
        return 0
    rows = gemm.depth if array.dataflow == "output_stationary" else array.rows
    return ceil(rows * array.columns / array.weights_per_cycle) + array.turnaround_cycles
