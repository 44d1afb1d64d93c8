"""The table of TFLite operators that nnaq reads.

What is read is what tflite-micro computes with the same integers, proved operator by operator; what
it would compute in another way is refused by name.
"""

from nnaq.frontends.tflite_arithmetic import (
    arithmetic,
    curve,
    dequantised,
    extreme,
    hard_swish,
    leaky_relu,
    reduction,
    relu,
    relu6,
    requantised,
    softmax,
)
from nnaq.frontends.tflite_importer import Handler
from nnaq.frontends.tflite_layers import (
    convolution,
    fully_connected,
    matrix_product,
    pool,
    transposed_convolution,
)
from nnaq.frontends.tflite_movement import (
    concatenation,
    into_shape,
    pack,
    pad,
    split,
    strided_slice,
    transpose,
    unpack,
)
from nnaq.frontends.tflite_states import assign_variable, handle_of, lstm, nothing, read_variable

HANDLERS: dict[str, Handler] = {
    "ADD": arithmetic("add"),
    "ASSIGN_VARIABLE": assign_variable,
    "AVERAGE_POOL_2D": pool("average_pool"),
    "BATCH_MATMUL": matrix_product,
    "CALL_ONCE": nothing,
    "CONCATENATION": concatenation,
    "CONV_2D": convolution,
    "DEPTHWISE_CONV_2D": convolution,
    "DEQUANTIZE": dequantised,
    "EXPAND_DIMS": into_shape,
    "FULLY_CONNECTED": fully_connected,
    "HARD_SWISH": hard_swish,
    "LEAKY_RELU": leaky_relu,
    "LOGISTIC": curve("sigmoid", 2.0**-8, -128),
    "MAXIMUM": extreme("maximum"),
    "MAX_POOL_2D": pool("max_pool"),
    "MEAN": reduction("reduce_mean"),
    "MINIMUM": extreme("minimum"),
    "MUL": arithmetic("mul"),
    "PACK": pack,
    "PAD": pad,
    "QUANTIZE": requantised,
    "READ_VARIABLE": read_variable,
    "REDUCE_MAX": reduction("reduce_max"),
    "REDUCE_MIN": reduction("reduce_min"),
    "RELU": relu,
    "RELU6": relu6,
    "RESHAPE": into_shape,
    "SOFTMAX": softmax,
    "SPLIT": split,
    "SPLIT_V": split,
    "SQUEEZE": into_shape,
    "STRIDED_SLICE": strided_slice,
    "SUB": arithmetic("sub"),
    "SUM": reduction("reduce_sum"),
    "TANH": curve("tanh", 2.0**-7, 0),
    "TRANSPOSE": transpose,
    "TRANSPOSE_CONV": transposed_convolution,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": lstm,
    "UNPACK": unpack,
    "VAR_HANDLE": handle_of,
}
