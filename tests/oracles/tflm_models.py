"""Build one-operator .tflite models and run them in tflite-micro; no TensorFlow involved."""

import dataclasses

import flatbuffers
import numpy as np
from tflite_micro import runtime
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

TENSOR_TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.int16): schema.TensorType.INT16,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int64): schema.TensorType.INT64,
}
LARGEST_OLD_OPCODE = 127
ARENA_BYTES = 1 << 20  # beyond the tensors that change


@dataclasses.dataclass
class Tensor:
    """One tensor of a model; with `data` it is a constant, with `variable` a state."""

    dtype: type
    shape: tuple
    scale: object = 1.0
    zero_point: int = 0
    data: np.ndarray | None = None
    channel_axis: int = 0
    variable: bool = False


def constant(data, scale, channel_axis=0):
    """A symmetric constant; several scales mean per-channel quantisation along the axis."""
    return Tensor(data.dtype, data.shape, scale, 0, data, channel_axis)


def _schema_tensor(tensor, buffer_index, name):
    scales = [float(scale) for scale in np.atleast_1d(tensor.scale)]
    quantization = schema.QuantizationParametersT(
        scale=scales,
        zeroPoint=[int(tensor.zero_point)] * len(scales),
        quantizedDimension=tensor.channel_axis,
    )
    return schema.TensorT(
        shape=[int(size) for size in tensor.shape],
        type=TENSOR_TYPES[np.dtype(tensor.dtype)],
        buffer=buffer_index,
        name=name,
        quantization=quantization,
        isVariable=tensor.variable,
    )


def _add_tensors(operands, output):
    """(buffers, tensors, tensor index of each operand and the output, indices of the inputs)."""
    buffers, tensors, indices, inputs = [schema.BufferT()], [], [], []
    for tensor in [*operands, output]:
        if tensor is None:
            indices.append(-1)
            continue
        data = None if tensor.data is None else np.frombuffer(tensor.data.tobytes(), np.uint8)
        buffers.append(schema.BufferT(data=data))
        indices.append(len(tensors))
        tensors.append(_schema_tensor(tensor, len(buffers) - 1, f"tensor_{len(tensors)}"))
        if tensor is not output and tensor.data is None and not tensor.variable:
            inputs.append(indices[-1])
    return buffers, tensors, indices, inputs


def build_model(op_name, options_name, options, operands, output, version=1):
    """Serialise a model of one operator; an operand of None is an absent optional input.

    The model's inputs are the operands that are neither constants nor variables.
    """
    buffers, tensors, indices, inputs = _add_tensors(operands, output)
    operator = schema.OperatorT(
        inputs=indices[:-1],
        outputs=indices[-1:],
        builtinOptionsType=getattr(schema.BuiltinOptions, options_name or "NONE"),
        builtinOptions=getattr(schema, f"{options_name}T")(**options) if options_name else None,
    )
    graph = schema.SubGraphT(
        tensors=tensors, inputs=inputs, outputs=indices[-1:], operators=[operator], name="main"
    )
    code = getattr(schema.BuiltinOperator, op_name)
    old_code = min(code, LARGEST_OLD_OPCODE)
    codes = [schema.OperatorCodeT(old_code, version=version, builtinCode=code)]
    model = schema.ModelT(version=3, operatorCodes=codes, subgraphs=[graph], buffers=buffers)
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def run_model(model, *inputs):
    """One invocation from a fresh state; returns the only output."""
    # Results and scratch memory are of the size of the inputs, or a few times that.
    arena = ARENA_BYTES + 64 * sum(np.asarray(values).nbytes for values in inputs)
    interpreter = runtime.Interpreter.from_bytes(model, arena_size=arena)
    for index, values in enumerate(inputs):
        interpreter.set_input(np.ascontiguousarray(values), index)
    interpreter.invoke()
    return np.array(interpreter.get_output(0))
