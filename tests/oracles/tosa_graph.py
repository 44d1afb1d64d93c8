"""Build and run small TOSA graphs with the reference model; runs in the TOSA environment only."""

import numpy as np
import tosa_reference_model
from serializer import tosa_serializer
from tosa.Op import Op

Attribute = tosa_serializer.TosaSerializerAttribute
DType = tosa_serializer.DType
SINGLE_ROUND, DOUBLE_ROUND = 1, 3
ROUNDINGS, BOTH = (SINGLE_ROUND, DOUBLE_ROUND), "single,double"
HALF = 1 << 30  # as a multiplier, 1/2 exactly
TYPES = {1: DType.BOOL, 8: DType.INT8, 16: DType.INT16, 32: DType.INT32, 48: DType.INT48}
NUMPY_TYPES = {1: np.bool_, 8: np.int8, 16: np.int16, 32: np.int32, 48: np.int64}


def random_multipliers(random, count, power_of_two):
    """31-bit multipliers in [2^30, 2^31); 2^30 makes exact ties reachable."""
    if power_of_two:
        return np.full(count, HALF, np.int32)
    return random.integers(HALF, 1 << 31, count).astype(np.int32)


class Graph:
    """One TOSA graph with its input arrays; a tensor is a (serializer tensor, bits) pair."""

    def __init__(self):
        self.serializer = tosa_serializer.TosaSerializer(
            ".",
            tosa_version_major=1,
            tosa_version_minor=0,
            tosa_version_patch=0,
            tosa_version_draft=False,
        )
        self.inputs = []
        self.constants = {}
        self.output_types = []

    def input(self, values, bits):
        values = np.ascontiguousarray(values, NUMPY_TYPES[bits])
        self.inputs.append(values)
        return self.serializer.addPlaceholder(list(values.shape), TYPES[bits], None), bits

    def constant(self, values, bits):
        """A constant tensor; equal ones are one."""
        values = np.atleast_1d(np.asarray(values, NUMPY_TYPES[bits]))
        key = bits, values.shape, values.tobytes()
        if key not in self.constants:
            self.constants[key] = self.serializer.addConst(list(values.shape), TYPES[bits], values)
        return self.constants[key], bits

    def apply(self, op, operands, shape, bits, attribute, output=True):
        """Add one operator; its result is an output of the graph unless told otherwise."""
        shape = [int(size) for size in shape]
        if output:
            result = self.serializer.addOutput(shape, TYPES[bits])
            self.output_types.append((shape, NUMPY_TYPES[bits]))
        else:
            result = self.serializer.addIntermediate(shape, TYPES[bits])
        names = [tensor.name for tensor, _ in operands]
        self.serializer.addOperator(op, names, [result.name], attribute)
        return result, bits

    def rescale(self, x, shape, bits, rounding, multiplier, shift, zero_points=(0, 0), output=True):
        """RESCALE with a 32-bit multiplier; `shift` is TOSA's, `zero_points` (input, output)."""
        attribute = Attribute()
        attribute.RescaleAttribute(True, rounding, np.size(multiplier) > 1, False, False)
        parameters = [
            self.constant(multiplier, 32),
            self.constant(shift, 8),
            self.constant(zero_points[0], x[1]),
            self.constant(zero_points[1], bits),
        ]
        return self.apply(Op.RESCALE, [x, *parameters], shape, bits, attribute, output)

    def run(self):
        """Run the reference model; refuse a result it calls invalid or unpredictable."""
        outputs, status = tosa_reference_model.run(
            bytes(self.serializer.serialize()), self.inputs, tosa_level="EIGHTK"
        )
        if status != tosa_reference_model.GraphStatus.TOSA_VALID:
            raise RuntimeError(f"the reference model returned {status}")
        typed = zip(outputs, self.output_types, strict=True)
        return [np.asarray(values).view(dtype).reshape(shape) for values, (shape, dtype) in typed]
