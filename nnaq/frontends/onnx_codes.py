"""Models that are quantised already: their scales and zero points become facts about values.

Every operator on codes is first spelled with QuantizeLinear and DequantizeLinear around the real
operator (`spelled_out`). The import then reads both as nothing: a value stays the real one, and
`Walk.codes` says with which codes the file writes it down. uint8 codes become i8 codes, q - 128 and
zero_point - 128, and mean the same reals. Constants keep the file's very codes: real = (q - z) s is
what the graph holds, and rounding it to the same scale gives q back.

DynamicQuantizeLinear chooses its scale while it runs; here that value is left to the calibration.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from nnaq.frontends import onnx_layers
from nnaq.frontends.onnx_constants import Coded
from nnaq.frontends.onnx_importer import Call, Handler
from nnaq.frontends.ports import Unsupported
from nnaq.ir.graph import Graph
from nnaq.ir.types import Quant, TensorType
from nnaq.quantize.code_classes import code_classes, demands

# ONNX's dtype of codes -> nnaq's, and what is taken off every code and zero point.
_DTYPES = {
    "int4": ("i4", 0),
    "uint4": ("i4", 8),
    "int8": ("i8", 0),
    "uint8": ("i8", 128),
    "int16": ("i16", 0),
    "uint16": ("i16", 2**15),
}


# --- QuantizeLinear and DequantizeLinear


def quantize_linear(call: Call) -> None:
    """QuantizeLinear: the real value stays, and its codes are a fact; constants become codes."""
    array = call.array(0)
    if array is not None:
        call.walk.arrays[call.node.output[0]] = _codes_of(call, array)
        return
    value = call.operand(0)
    _tell(call, value, call.array(2))
    call.bind(value)


def dequantize_linear(call: Call) -> None:
    """DequantizeLinear: of constant codes the reals, of a value the value itself."""
    codes = call.array(0)
    if codes is None:
        value = call.operand(0)
        _tell(call, value, call.array(2))
        return call.bind(value)
    scale, zero, output = call.need(1, "scale").astype(np.float64), call.array(2), call.node.output[0]
    zeros = np.zeros(1, np.int64) if zero is None else zero.astype(np.int64)
    held = (codes.astype(np.int64) - _spread(call, zeros, codes)) * _spread(call, scale, codes)
    call.walk.arrays[output] = held.astype(np.float32)
    axis = None if scale.size == 1 else call.attrs.get("axis", 1) % codes.ndim
    quant = _quant(codes.dtype.name, scale.reshape(-1), zeros.reshape(-1), axis)
    if quant is not None and not call.attrs.get("block_size"):
        call.walk.coded[output] = Coded(*quant)
    return None


def _spread(call: Call, numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Scales or zero points as they broadcast against codes: one, one a channel, or one a block."""
    if numbers.size == 1:
        return numbers.reshape((1,) * codes.ndim)
    axis = call.attrs.get("axis", 1) % codes.ndim
    block = call.attrs.get("block_size", 0)
    if block:
        return np.repeat(numbers, block, axis).take(range(codes.shape[axis]), axis)
    return numbers.reshape([-1 if a == axis else 1 for a in range(codes.ndim)])


def _quant(dtype: str, scale: np.ndarray, zeros: np.ndarray, axis: int | None) -> tuple[str, Quant] | None:
    """nnaq's dtype and code map; None where it has none: 32 bits, several zero points, i16 around another."""
    if dtype not in _DTYPES or len(set(zeros.tolist())) > 1:
        return None
    name, offset = _DTYPES[dtype]
    zero = int(zeros[0]) - offset
    return None if name == "i16" and zero else (name, Quant(tuple(map(float, scale)), zero, axis))


def _tell(call: Call, value: str, zero: np.ndarray | None) -> None:
    """Record the code type of a value of the graph."""
    scale = call.need(1, "scale")
    dtype = zero.dtype.name if zero is not None else _dtype_name(call.attrs.get("output_dtype"))
    zeros = np.zeros(1, np.int64) if zero is None else zero.astype(np.int64).reshape(-1)
    if scale.size != 1:
        raise Unsupported("its operand has a scale for every channel", "only weights may have several scales")
    quant = _quant(dtype, scale.reshape(-1), zeros, None)
    if quant is None:
        call.walk.notes.append(f"value {value}: calibrated, as no codes of nnaq are the file's {dtype}")
        return
    made = TensorType(quant[0], call.type_shape(value), quant[1])
    held = call.walk.codes.setdefault(value, made)
    if held.quant != made.quant or held.dtype != made.dtype:
        call.walk.notes.append(f"value {value}: the file gives it two code types; {held} is used, not {made}")


def _dtype_name(code: object) -> str:
    return str(helper.tensor_dtype_to_np_dtype(code).name) if isinstance(code, int) and code else "uint8"


def _codes_of(call: Call, array: np.ndarray) -> np.ndarray:
    """Codes of a constant, by ONNX's rule: half to even, then saturation."""
    scale, zero = call.need(1, "scale").astype(np.float32), call.array(2)
    kind = np.dtype(np.uint8) if zero is None else zero.dtype
    if kind.name not in _DTYPES or "int4" in kind.name:
        raise Unsupported(f"it makes codes of {kind.name}", "codes of 8 and 16 bits are read")
    zeros = np.zeros(1) if zero is None else zero.astype(np.float64)
    limits = np.iinfo(kind)
    codes = np.rint(array.astype(np.float32) / _spread(call, scale, array)) + _spread(call, zeros, array)
    return np.asarray(np.clip(codes, limits.min, limits.max), kind)


def dynamic_quantize(call: Call) -> None:
    """DynamicQuantizeLinear: the value itself, with scale 1 and zero point 0 for those who ask."""
    output, scale, zero = (*call.node.output, "", "")[:3]
    call.bind(call.operand(0), output)
    call.walk.arrays[scale or f"{output}.scale"] = np.ones((), np.float32)
    call.walk.arrays[zero or f"{output}.zero"] = np.zeros((), np.uint8)
    call.walk.notes.append(f"value {call.node.input[0]}: its scale comes from the calibration")


def of_whole_codes(op: str, layer: Handler) -> Handler:
    """ConvInteger, MatMulInteger: the layer of codes less their zero points, which are whole numbers."""

    def handle(call: Call) -> None:
        names = [_centred(call, position) for position in (0, 1)]
        node = helper.make_node(op, names, call.node.output, name=call.node.name)
        node.attribute.extend(call.node.attribute)
        layer(Call(call.walk, node))

    return handle


def _centred(call: Call, position: int) -> str:
    """The name of an operand less its zero point."""
    name, zeros, codes = f"{call.node.input[position]}.centred", None, call.array(position)
    if call.has(2 + position):
        zeros = call.need(2 + position, "zero point")
        if np.unique(zeros).size > 1:
            raise Unsupported("it has several zero points", "export it with symmetric weights")
    zero = 0 if zeros is None else int(zeros.reshape(-1)[0])
    if codes is None:
        value = call.operand(position)
        call.walk.values[name] = call.step("sub", [value, call.number(zero)]) if zero else value
        return name
    call.walk.arrays[name] = (codes.astype(np.int64) - zero).astype(np.float32)
    quant = _quant(codes.dtype.name, np.ones(1), np.array([zero]), None)
    if quant is not None:
        call.walk.coded[name] = Coded(*quant)
    return name


def agreed(graph: Graph, codes: Mapping[str, TensorType]) -> tuple[dict[str, TensorType], list[str]]:
    """The code types a graph can follow: one for values that share their codes, and what was left out.

    Where the file changes the scale of a value that only moves, the first scale stands; where an
    operator insists on codes (a softmax's probabilities), the operator's stand.
    """
    classes, insisting = code_classes(graph), demands(graph)
    kept: dict[str, TensorType] = {}
    first: dict[str, TensorType] = {}
    left = []
    for value, kind in codes.items():
        if value not in graph.types:
            continue
        if value in graph.constants:
            kept[value] = kind
            continue
        held = first.get(classes[value], kind)
        if classes[value] in insisting or (held.dtype, held.quant) != (kind.dtype, kind.quant):
            left.append(value)
        else:
            first.setdefault(classes[value], kind)
            kept[value] = kind
    notes = []
    if codes:
        weights = len(kept.keys() & graph.constants.keys())
        notes.append(f"the file is quantised: codes of {weights} weights and {len(kept) - weights} values")
    if left:
        notes.append(f"{len(left)} values cannot keep the file's codes: {', '.join(left)}")
    return kept, notes


# --- operators on codes, spelled out


@dataclass
class _Spelling:
    """The nodes that one operator becomes."""

    node: onnx.NodeProto
    nodes: list[onnx.NodeProto]

    @property
    def stem(self) -> str:
        return str(self.node.name or self.node.output[0])

    def real(self, codes: int, scale: int, zero: int, axis: int | None = None) -> str:
        """The reals of an operand, by the positions of its codes, scale and zero point."""
        names = [self.node.input[i] if i < len(self.node.input) else "" for i in (codes, scale, zero)]
        result = f"{self.stem}.real{codes}"
        attrs = {} if axis is None else {"axis": axis}
        self.nodes.append(helper.make_node("DequantizeLinear", names, [result], **attrs))
        return result

    def bias(self, position: int) -> str:
        """The reals of a 32-bit bias, whose scale is that of the product of operands 0 and 3."""
        scale, result = f"{self.stem}.bias_scale", f"{self.stem}.bias"
        self.nodes.append(helper.make_node("Mul", [self.node.input[1], self.node.input[4]], [scale]))
        operands = [self.node.input[position], scale]
        self.nodes.append(helper.make_node("DequantizeLinear", operands, [result], axis=0))
        return result

    def quantized(self, value: str, scale: int, zero: int) -> None:
        """The result's codes."""
        names = [value, *(self.node.input[i] if i < len(self.node.input) else "" for i in (scale, zero))]
        self.nodes.append(helper.make_node("QuantizeLinear", names, [self.node.output[0]]))

    def apply(self, op: str, *operands: str, **attrs: object) -> str:
        """A real operator; without attributes of its own it has the node's."""
        result = f"{self.stem}.result"
        made = helper.make_node(op, list(operands), [result], name=self.stem, **attrs)
        if not attrs:
            made.attribute.extend(self.node.attribute)
        self.nodes.append(made)
        return result


def _conv(spelling: _Spelling) -> None:
    x, w = spelling.real(0, 1, 2), spelling.real(3, 4, 5, axis=0)
    operands = [x, w]
    if len(spelling.node.input) > 8 and spelling.node.input[8]:
        scale, bias = f"{spelling.stem}.bias_scale", f"{spelling.stem}.bias"
        spelling.nodes.append(
            helper.make_node("Mul", [spelling.node.input[1], spelling.node.input[4]], [scale])
        )
        names = [spelling.node.input[8], scale]
        spelling.nodes.append(helper.make_node("DequantizeLinear", names, [bias], axis=0))
        operands.append(bias)
    spelling.quantized(spelling.apply("Conv", *operands), 6, 7)


def _matmul(spelling: _Spelling) -> None:
    product = spelling.apply("MatMul", spelling.real(0, 1, 2), spelling.real(3, 4, 5))
    spelling.quantized(product, 6, 7)


def _gemm(spelling: _Spelling) -> None:
    """QGemm: A, a_scale, a_zero, B, b_scale, b_zero, C?, y_scale?, y_zero?"""
    turned = any(a.name == "transB" and a.i for a in spelling.node.attribute)
    operands = [spelling.real(0, 1, 2), spelling.real(3, 4, 5, axis=0 if turned else 1)]
    if len(spelling.node.input) > 6 and spelling.node.input[6]:
        scale, bias = f"{spelling.stem}.bias_scale", f"{spelling.stem}.bias"
        spelling.nodes.append(
            helper.make_node("Mul", [spelling.node.input[1], spelling.node.input[4]], [scale])
        )
        names = [spelling.node.input[6], scale]
        spelling.nodes.append(helper.make_node("DequantizeLinear", names, [bias], axis=0))
        operands.append(bias)
    product = spelling.apply("Gemm", *operands)
    if len(spelling.node.input) > 7 and spelling.node.input[7]:
        return spelling.quantized(product, 7, 8)
    spelling.nodes.append(helper.make_node("Identity", [product], [spelling.node.output[0]]))
    return None


def _binary(op: str) -> Callable[[_Spelling], None]:
    def spell(spelling: _Spelling) -> None:
        spelling.quantized(spelling.apply(op, spelling.real(0, 1, 2), spelling.real(3, 4, 5)), 6, 7)

    return spell


def _unary(op: str, *dropped: str) -> Callable[[_Spelling], None]:
    def spell(spelling: _Spelling) -> None:
        value = spelling.apply(op, spelling.real(0, 1, 2))
        kept = [a for a in spelling.nodes[-1].attribute if a.name not in dropped]
        del spelling.nodes[-1].attribute[:]
        spelling.nodes[-1].attribute.extend(kept)
        spelling.quantized(value, 3, 4)

    return spell


def _concat(spelling: _Spelling) -> None:
    """QLinearConcat: y_scale, y_zero, then codes, scale and zero point of every operand."""
    operands = [spelling.real(i, i + 1, i + 2) for i in range(2, len(spelling.node.input), 3)]
    spelling.quantized(spelling.apply("Concat", *operands), 0, 1)


_SPELLINGS: Mapping[str, Callable[[_Spelling], None]] = {
    "QGemm": _gemm,
    "QLinearAdd": _binary("Add"),
    "QLinearAveragePool": _unary("AveragePool", "channels_last"),
    "QLinearConcat": _concat,
    "QLinearConv": _conv,
    "QLinearGlobalAveragePool": _unary("GlobalAveragePool", "channels_last"),
    "QLinearLeakyRelu": _unary("LeakyRelu"),
    "QLinearMatMul": _matmul,
    "QLinearMul": _binary("Mul"),
    "QLinearSigmoid": _unary("Sigmoid"),
    "QLinearSoftmax": _unary("Softmax", "opset"),
}
_MICROSOFT_NAMES = {"QuantizeLinear", "DequantizeLinear"}


def spelled_out(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, in place, with every operator on codes as a real one between two quantisers."""
    nodes = [made for node in model.graph.node for made in _spelled(node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _spelled(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    if node.domain not in ("", "ai.onnx", "com.microsoft") or _is_last_channel(node):
        yield node
    elif node.op_type in _SPELLINGS:
        spelling = _Spelling(node, [])
        _SPELLINGS[node.op_type](spelling)
        yield from spelling.nodes
    else:
        if node.op_type in _MICROSOFT_NAMES:
            node.domain = ""
        yield node


def _is_last_channel(node: onnx.NodeProto) -> bool:
    return any(a.name == "channels_last" and a.i for a in node.attribute)


HANDLERS: dict[str, Handler] = {
    "ConvInteger": of_whole_codes("Conv", onnx_layers.conv),
    "DequantizeLinear": dequantize_linear,
    "DynamicQuantizeLinear": dynamic_quantize,
    "MatMulInteger": of_whole_codes("MatMul", onnx_layers.matmul),
    "QuantizeLinear": quantize_linear,
}
