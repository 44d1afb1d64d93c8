"""Which body stands for which operator: `BODIES` over codes, `bodies_real` for host islands.

A body is `(body, signature, *operands) -> results`, the verb of a kernel over names instead of
arrays.
"""

from collections.abc import Callable

from nnaq.export import (
    bodies_boundary,
    bodies_elementwise,
    bodies_lut,
    bodies_matmul,
    bodies_movement,
    bodies_recurrent,
    bodies_roots,
    bodies_windows,
)

MakeBody = Callable[..., tuple[str, ...]]

BODIES: dict[str, MakeBody] = {
    "quantize": bodies_boundary.quantize,
    "dequantize": bodies_boundary.dequantize,
    "rescale": bodies_boundary.rescale,
    "sigmoid": bodies_lut.table,
    "tanh": bodies_lut.table,
    "exp": bodies_lut.table,
    "log": bodies_lut.table,
    "fully_connected": bodies_matmul.fully_connected,
    "matmul": bodies_matmul.matmul,
    "conv1d": bodies_windows.convolution,
    "conv2d": bodies_windows.convolution,
    "max_pool": bodies_windows.max_pool,
    "average_pool": bodies_windows.average_pool,
    "add": bodies_elementwise.sum_body("Add"),
    "sub": bodies_elementwise.sum_body("Sub"),
    "mul": bodies_elementwise.mul,
    "square": bodies_elementwise.square,
    "relu": bodies_elementwise.relu,
    "sqrt": bodies_roots.sqrt,
    "lstm": bodies_recurrent.lstm,
    "reshape": bodies_movement.reshape,
    "transpose": bodies_movement.transpose,
    "slice": bodies_movement.slice_,
    "pad": bodies_movement.pad,
    "concat": bodies_movement.concat,
}
