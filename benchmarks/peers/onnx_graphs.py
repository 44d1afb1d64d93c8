"""What a quantised ONNX file leaves in float."""

from collections import Counter

import onnx

WITHOUT_ARITHMETIC = {
    "Constant", "DequantizeLinear", "Flatten", "Gather", "Identity", "Pad", "QuantizeLinear", "Relu",
    "Reshape", "Shape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze", "Cast", "Concat",
    "ConstantOfShape",
}  # fmt: skip


PRODUCTS = {"Conv", "Gemm", "LSTM", "MatMul"}


def left_in_float(model: onnx.ModelProto) -> str:
    """Operators with arithmetic on an operand (for products, or on weights) that is not quantised.

    Their number by kind; biases and other constants may be float.
    """
    plain = {n.output[0]: n for n in model.graph.node if n.op_type in WITHOUT_ARITHMETIC}
    constants = {one.name for one in model.graph.initializer}
    constants |= {out for n in model.graph.node if n.op_type == "Constant" for out in n.output}

    def quantised(name: str) -> bool:
        while name in plain and plain[name].op_type != "DequantizeLinear" and plain[name].input:
            name = plain[name].input[0]
        return name in plain and plain[name].op_type == "DequantizeLinear"

    found: Counter[str] = Counter()
    for node in model.graph.node:
        if node.op_type in WITHOUT_ARITHMETIC:
            continue
        operands = [name for name in node.input[:2] if name]
        if node.op_type not in PRODUCTS:
            operands = [name for name in operands if name not in constants]
        if not all(map(quantised, operands)):
            found[node.op_type] += 1
    return ", ".join(f"{number} {kind}" for kind, number in sorted(found.items())) or "nothing"
