"""Constants of an ONNX model: what they hold, which codes they had, what is worked out of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from nnaq.frontends.ports import Unsupported
from nnaq.ir.types import Quant

TRANSPOSED = "transposed"  # the form of a matrix with its axes turned round
REGROUPED = "gates"  # forms that begin so hold the same rows in another order
LARGEST_WHOLE = 2**24  # whole numbers up to here are float32 numbers
LARGEST = 2**24  # entries of constants that are worked out here
_MOVES = frozenset({"Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})
_OF_CONSTANTS = _MOVES | {"Add", "Cast", "Concat", "Div", "Gather", "Mul", "Neg", "Sqrt", "Sub"}
_KINDS = {"f": "real", "b": "flag", "i": "whole", "u": "whole"}


@dataclass(frozen=True)
class Coded:
    """The codes a constant has in the file: their dtype and map; `quant.axis` counts in the file's layout."""

    dtype: str
    quant: Quant

    def turned(self, perm: Sequence[int]) -> "Coded":
        """The codes of the transposed constant."""
        axis = self.quant.axis
        return self if axis is None else replace(self, quant=replace(self.quant, axis=list(perm).index(axis)))


def carried(node: onnx.NodeProto, coded: Coded | None, rank: int) -> Coded | None:
    """The codes of what a node makes of a coded constant, where it only moves them."""
    if coded is not None and node.op_type == "Transpose":
        perm = next((list(a.ints) for a in node.attribute), list(range(rank))[::-1])
        return coded.turned(perm)
    return coded if coded is not None and coded.quant.axis is None and node.op_type in _MOVES else None


def worked_out(node: onnx.NodeProto, held: Mapping[str, np.ndarray], opset: int) -> np.ndarray | None:
    """What a small node makes of constants; None where it is another node or cannot."""
    is_plain = node.domain in ("", "ai.onnx") and node.op_type in _OF_CONSTANTS and len(node.output) == 1
    if not is_plain or sum(array.size for array in held.values()) > LARGEST:
        return None
    try:
        (made,) = ReferenceEvaluator(node, opsets={"": opset}).run(None, dict(held))
    except (RuntimeError, ValueError, TypeError, IndexError):
        return None
    return np.asarray(made)


def kind_of_dtype(code: int) -> str:
    """What an ONNX dtype holds: `real`, `whole`, `flag` or `other`."""
    try:
        return _KINDS.get(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(code)).kind, "other")
    except (KeyError, TypeError):
        return "other"


def kind_of_array(array: np.ndarray) -> str:
    """What an array holds, in the same words."""
    return _KINDS.get(array.dtype.kind, "other")


def numbers(value: str, array: np.ndarray) -> np.ndarray:
    """A constant as float32 numbers; whole numbers must be among them."""
    if array.dtype.kind not in _KINDS:
        raise Unsupported(f"its operand {value!r} holds no numbers")
    whole = array.dtype.kind in "iu" and array.size
    if whole and max(-int(array.min()), int(array.max())) > LARGEST_WHOLE:
        raise Unsupported(f"its operand {value!r} holds whole numbers beyond {LARGEST_WHOLE}")
    return array.astype(np.float32)
