"""Arithmetic between values of equal or broadcast shape, code by code.

With z the zero_points, s the scales, R the requantisation of `fixedpoint` and sat its saturation,

    add, sub   i8, i8 -> i8, as TFLite has it, S = 2 max(s_a, s_b):
                   u = R((a - z_a) << 20, s_a / S),  v = R((b - z_b) << 20, s_b / S)
                   y = sat8(R(u ± v, S / (2^20 s_y)) + z_y)
               i8, i16, i32 in any other pair -> i8 or i16, at the scale of the result:
                   y = sat(sat16(R(a - z_a, s_a / s_y)) ± sat16(R(b - z_b, s_b / s_y)) + z_y)
               i32, i32 -> i32 where s_a = s_b = s_y, exact in 64 bits:
                   y = sat32((a - z_a) ± (b - z_b) + z_y)
    mul        y = sat(R((a - z_a)(b - z_b), s_a s_b / s_y) + z_y), product in 32 bits
               i32, i32 -> i32 between whole numbers (scale 1): y = sat32(a b), exact in 64 bits
    square     y = (q - z)^2 in i32 with scale s^2 and zero_point 0, exact
    relu       y = max(q, z)

The constants are multiplier and shift of each R, in the order written. Narrow operands leave room
above them, so their rescales may shift left further than an i32's (`fixedpoint.largest_left_shift`):
i8 + i16 at the scale of an i16 result needs about 8.

Errors against the reals, in units of the result and with rounding `single`: i8 add 0.5 + 2^-10;
the other adds 1.0 (1/2 per operand); mul 0.5 + 2^-16; square and relu none.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nnaq.errors import GraphError, LoweringError
from nnaq.ir.dims import Dim, Shape, show
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import (
    Arrays,
    Attr,
    Bindable,
    Constant,
    Kernel,
    Op,
    Prepared,
    Signature,
    as_is,
    at_once,
    register,
)
from nnaq.ir.types import Quant, TensorType, bounds, storage
from nnaq.jit import jit
from nnaq.kernels.bound import Bound, bound
from nnaq.kernels.boundary import (
    elementwise_work,
    largest_distance,
    multiplier_constants,
    same_shape,
    when_constant,
)
from nnaq.kernels.fixedpoint import (
    CODES,
    quantize_multipliers,
    requantize,
    requantize_reference,
    saturate,
    saturate_reference,
)
from nnaq.kernels.machine.maps import INPUT_SHIFT as INPUT_SHIFT
from nnaq.kernels.machine.maps import product_map, sum_8_map, sum_16_map
from nnaq.kernels.requantize_lanes import kind_of, limit_rows, rescaling_rows, stage_rows

LOW_16, HIGH_16 = -(2**15), 2**15 - 1


def broadcast_shape(a: Sequence[Dim], b: Sequence[Dim], who: str) -> Shape:
    """The common shape of two operands, by NumPy's rules; a symbolic axis equals itself only."""
    rank = max(len(a), len(b))
    left, right = ((1,) * (rank - len(dims)) + tuple(dims) for dims in (a, b))
    if any(m != n and 1 not in (m, n) for m, n in zip(left, right, strict=True)):
        raise GraphError(f"{who} needs shapes that broadcast, found {show(a)} and {show(b)}")
    return tuple(n if m == 1 else m for m, n in zip(left, right, strict=True))


def infer_binary(who: str) -> Callable[..., tuple[Shape, ...]]:
    """Shape inference of an operator whose first two operands broadcast."""

    def infer(inputs: tuple[TensorType | None, ...], attrs: Mapping[str, Attr]) -> tuple[Shape, ...]:
        a, b = inputs[:2]
        assert a is not None
        assert b is not None
        return (broadcast_shape(a.shape, b.shape, who),)

    return infer


def rescale_constants(ratio: float, bound: int, rounding: str, prefix: str = "") -> tuple[Constant, ...]:
    """multiplier and shift of `ratio` for values of at most `bound` in size."""
    return multiplier_constants(*quantize_multipliers(np.array(ratio), rounding, bound), prefix)


# --- add and sub


def is_tflite_sum(signature: Signature) -> bool:
    """Whether operands and result are all i8: the form with headroom and a common scale."""
    kinds = (signature.input(0), signature.input(1), signature.outputs[0])
    return all(kind.dtype == "i8" for kind in kinds)


def prepare_sum(
    signature: Signature, constants: tuple[np.ndarray | None, ...], numerics: Numerics
) -> Prepared:
    """The rescales of both operands and, between i8 codes, of their sum; none for i32 results."""
    a, b, y = signature.input(0), signature.input(1), signature.outputs[0]
    rounding = numerics.rounding
    if y.dtype == "i32":
        if not a.scale == b.scale == y.scale:
            scales = f"{a.scale!r}, {b.scale!r} -> {y.scale!r}"
            raise LoweringError(
                f"a sum into i32 needs one scale throughout, found {scales}; rescale before it"
            )
        return Prepared((0, 1), {})
    common = 2.0 * max(a.scale, b.scale) if is_tflite_sum(signature) else y.scale
    operands: list[int | Constant] = [0, 1]
    for prefix, kind in (("a_", a), ("b_", b)):
        bound = 2**31 if is_tflite_sum(signature) else largest_distance(kind)
        operands += rescale_constants(kind.scale / common, bound, rounding, prefix)
    if is_tflite_sum(signature):
        operands += rescale_constants(common / (2.0**INPUT_SHIFT * y.scale), 2**31, rounding)
    return Prepared(tuple(operands), {"rounding": rounding})


def follow_sum(signature: Signature) -> tuple[TensorType, ...] | None:
    """i32 operands of one scale make an i32 result of that scale: nothing is rounded."""
    a, b, y = signature.input(0), signature.input(1), signature.outputs[0]
    if a.dtype == b.dtype == "i32" and a.scale == b.scale:
        return (TensorType("i32", y.shape, Quant((a.scale,))),)
    return None


def sum_reference(sign: int) -> Callable[..., Arrays]:
    """The reference of add (sign 1) or sub (sign -1)."""

    def reference(signature: Signature, a: np.ndarray, b: np.ndarray, *rescales: np.ndarray) -> Arrays:
        code = _sum_of_codes(signature, sign, [int(c) for c in rescales])
        return (_pairwise(signature, a, b, code),)

    return reference


def _pairwise(
    signature: Signature, a: np.ndarray, b: np.ndarray, code: Callable[[int, int], int]
) -> np.ndarray:
    """Apply `code` to every pair of centred codes and saturate what it makes."""
    y = signature.outputs[0]
    low, high = bounds(y.dtype)
    zero_a, zero_b = signature.input(0).zero_point, signature.input(1).zero_point
    pairs = np.broadcast(a, b)
    codes = [
        saturate_reference(code(int(p) - zero_a, int(q) - zero_b), y.zero_point, low, high) for p, q in pairs
    ]
    return np.array(codes, storage(y.dtype)).reshape(pairs.shape)


def _sum_of_codes(signature: Signature, sign: int, constants: list[int]) -> Callable[[int, int], int]:
    if not constants:
        return lambda a, b: a + sign * b
    rounding = str(signature.attrs["rounding"])
    a_multiplier, a_shift, b_multiplier, b_shift, *last = constants
    headroom = INPUT_SHIFT if last else 0

    def code(a: int, b: int) -> int:
        u = requantize_reference(a << headroom, a_multiplier, a_shift, rounding)
        v = requantize_reference(b << headroom, b_multiplier, b_shift, rounding)
        if last:
            return requantize_reference(u + sign * v, last[0], last[1], rounding)
        return min(max(u, LOW_16), HIGH_16) + sign * min(max(v, LOW_16), HIGH_16)

    return code


def sum_load(sign: int) -> Callable[[Signature, tuple[Any, ...]], Kernel]:
    """The fast kernel of add (sign 1) or sub (sign -1) with its constants."""

    def load(signature: Signature, operands: tuple[Any, ...]) -> Kernel:
        rescales = [int(c) for c in operands[2:]]
        if not rescales:
            return one_by_one(signature, _exact_sum_loop, sign)
        rounding = str(signature.attrs["rounding"])
        is_8 = len(rescales) == 6
        rows = _sum_rows(signature, sign, rescales, rounding)
        if rows is not None:
            return in_lanes(signature, _sum_8_lanes if is_8 else _sum_16_lanes, rows)
        loop: Callable[..., None] = _tflite_sum_loop if is_8 else _sum_loop
        return one_by_one(signature, loop, sign, *rescales, CODES[rounding])

    return load


def _sum_rows(signature: Signature, sign: int, rescales: list[int], rounding: str) -> np.ndarray | None:
    """The rows of a sum in vector lanes, where 32 bits hold what it meets."""
    a, b, y = signature.input(0), signature.input(1), signature.outputs[0]
    headroom = INPUT_SHIFT if len(rescales) == 6 else 0
    reach, stages = 0, []
    for i, kind in enumerate((a, b)):
        own, (q, s) = largest_distance(kind) << headroom, rescales[2 * i : 2 * i + 2]
        stages.append(stage_rows(q, s, rounding, own))
        reach += requantize_reference(own, q, s, rounding) + 1
    if headroom:
        stages.append(stage_rows(rescales[4], rescales[5], rounding, reach))
    zeros = (a.zero_point, b.zero_point, (sign - 1) // 2)
    return rescaling_rows(zeros, stages, limit_rows(y.zero_point, *bounds(y.dtype)))


def in_lanes(signature: Signature, loop: Callable[..., None], rows: np.ndarray) -> Kernel:
    """A map over two operands: i8 throughout, or all of them as i16; i32 operands as they are."""
    made = storage(signature.outputs[0].dtype)
    kinds = {kind.dtype for kind in (signature.input(0), signature.input(1), signature.outputs[0])}
    dtype = np.int8 if kinds == {"i8"} else np.int16
    wide = np.int32 if "i32" in kinds else dtype
    kind = kind_of(str(signature.attrs["rounding"]))

    def bind(a: np.ndarray, b: np.ndarray, *_: Any) -> Bound:
        return bound(loop, ((a, wide), (b, wide)), common_shape(a, b), (dtype, made), rows, kind)

    return Bindable(bind)


def one_by_one(signature: Signature, loop: Callable[..., None], *constants: int) -> Kernel:
    """A compiled loop in 64 bits, whatever the operands are: one compiled form for all of them."""
    y = signature.outputs[0]
    zeros = (signature.input(0).zero_point, signature.input(1).zero_point, y.zero_point)

    dtypes, numbers = (np.int64, storage(y.dtype)), (*zeros, *bounds(y.dtype), *constants)

    def bind(a: np.ndarray, b: np.ndarray, *_: Any) -> Bound:
        return bound(loop, ((a, np.int64), (b, np.int64)), common_shape(a, b), dtypes, *numbers)

    return Bindable(bind)


def common_shape(a: np.ndarray, b: np.ndarray) -> tuple[int, ...]:
    """The shape of both operands."""
    return a.shape if a.shape == b.shape else np.broadcast_shapes(a.shape, b.shape)


@jit
def _sum_8_lanes(a, b, out, rows, kind):  # type: ignore[no-untyped-def]
    sum_8_map(a, b, out, rows, kind)


@jit
def _sum_16_lanes(a, b, out, rows, kind):  # type: ignore[no-untyped-def]
    sum_16_map(a, b, out, rows, kind)


@jit
def _product_lanes(a, b, out, rows, kind):  # type: ignore[no-untyped-def]
    product_map(a, b, out, rows, kind)


@jit
def _exact_sum_loop(a, b, out, zero_a, zero_b, zero_y, low, high, sign):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        total = (np.int64(a[i]) - zero_a) + sign * (np.int64(b[i]) - zero_b)
        out[i] = saturate(total, zero_y, low, high)


@jit
def _tflite_sum_loop(  # type: ignore[no-untyped-def]
    a, b, out, zero_a, zero_b, zero_y, low, high, sign, q_a, s_a, q_b, s_b, q, s, rounding
):
    for i in range(out.size):
        u = requantize((np.int64(a[i]) - zero_a) << INPUT_SHIFT, q_a, s_a, rounding)
        v = requantize((np.int64(b[i]) - zero_b) << INPUT_SHIFT, q_b, s_b, rounding)
        out[i] = saturate(requantize(u + sign * v, q, s, rounding), zero_y, low, high)


@jit
def _sum_loop(  # type: ignore[no-untyped-def]
    a, b, out, zero_a, zero_b, zero_y, low, high, sign, q_a, s_a, q_b, s_b, rounding
):
    for i in range(out.size):
        u = requantize(np.int64(a[i]) - zero_a, q_a, s_a, rounding)
        v = requantize(np.int64(b[i]) - zero_b, q_b, s_b, rounding)
        total = min(max(u, LOW_16), HIGH_16) + sign * min(max(v, LOW_16), HIGH_16)
        out[i] = saturate(total, zero_y, low, high)


# --- mul


def prepare_mul(
    signature: Signature, constants: tuple[np.ndarray | None, ...], numerics: Numerics
) -> Prepared:
    """multiplier and shift of s_a s_b / s_y; none between whole numbers."""
    a, b, y = signature.input(0), signature.input(1), signature.outputs[0]
    if a.dtype == b.dtype == "i32":
        if not a.scale == b.scale == y.scale == 1.0:
            scales = f"{a.scale!r}, {b.scale!r} -> {y.scale!r}"
            raise LoweringError(
                f"mul multiplies i32 codes of whole numbers only (scale 1), found {scales}; "
                "give its operands i8 or i16 codes"
            )
        return Prepared((0, 1), {})
    bound = largest_distance(a) * largest_distance(b)
    rescale = rescale_constants(a.scale * b.scale / y.scale, bound, numerics.rounding)
    return Prepared((0, 1, *rescale), {"rounding": numerics.rounding})


def follow_mul(signature: Signature) -> tuple[TensorType, ...] | None:
    """The product of whole numbers is a whole number."""
    a, b = signature.input(0), signature.input(1)
    if a.dtype == b.dtype == "i32" and a.scale == b.scale == 1.0:
        return (TensorType("i32", signature.outputs[0].shape, Quant((1.0,))),)
    return None


def mul_reference(signature: Signature, a: np.ndarray, b: np.ndarray, *rescale: np.ndarray) -> Arrays:
    if not rescale:
        return (_pairwise(signature, a, b, lambda m, n: m * n),)
    q, s, rounding = int(rescale[0]), int(rescale[1]), str(signature.attrs["rounding"])
    return (_pairwise(signature, a, b, lambda m, n: requantize_reference(m * n, q, s, rounding)),)


def load_mul(signature: Signature, operands: tuple[Any, ...]) -> Kernel:
    """The fast kernel with its constants."""
    if len(operands) == 2:
        return _whole_product
    a, b, y = signature.input(0), signature.input(1), signature.outputs[0]
    q, s, rounding = int(operands[2]), int(operands[3]), str(signature.attrs["rounding"])
    stage = stage_rows(q, s, rounding, largest_distance(a) * largest_distance(b))
    limits = limit_rows(y.zero_point, *bounds(y.dtype))
    rows = rescaling_rows((a.zero_point, b.zero_point), (stage,), limits)
    if rows is None:
        return one_by_one(signature, _mul_loop, q, s, CODES[rounding])
    return in_lanes(signature, _product_lanes, rows)


def _whole_product(a: np.ndarray, b: np.ndarray) -> Arrays:
    product = a.astype(np.int64) * b.astype(np.int64)
    return (np.clip(product, *bounds("i32")).astype(np.int32),)


@jit
def _mul_loop(a, b, out, zero_a, zero_b, zero_y, low, high, q, s, rounding):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        product = (np.int64(a[i]) - zero_a) * (np.int64(b[i]) - zero_b)
        out[i] = saturate(requantize(product, q, s, rounding), zero_y, low, high)


# --- square and relu


def follow_square(signature: Signature) -> tuple[TensorType, ...]:
    """i32 with the squared scale and zero_point 0."""
    quant = Quant((signature.input(0).scale ** 2,))
    return (TensorType("i32", signature.outputs[0].shape, quant),)


def square_reference(signature: Signature, x: np.ndarray) -> Arrays:
    zero_point = signature.input(0).zero_point
    codes = [(int(q) - zero_point) ** 2 for q in x.ravel()]
    return (np.array(codes, np.int32).reshape(x.shape),)


def load_square(signature: Signature, operands: tuple[Any, ...]) -> Kernel:
    dtypes, zero = (np.int32, np.int32), signature.input(0).zero_point
    return Bindable(lambda x: bound(_square_loop, ((x, x.dtype),), x.shape, dtypes, zero))


@jit
def _square_loop(x, out, zero):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        v = np.int32(np.int32(x[i]) - np.int32(zero))
        out[i] = np.int32(v * v)


def relu_reference(signature: Signature, x: np.ndarray) -> Arrays:
    codes = [max(int(q), signature.input(0).zero_point) for q in x.ravel()]
    return (np.array(codes, x.dtype).reshape(x.shape),)


def load_relu(signature: Signature, operands: tuple[Any, ...]) -> Kernel:
    zero = signature.input(0).zero_point
    return Bindable(lambda x: bound(_relu_loop, ((x, x.dtype),), x.shape, (x.dtype, x.dtype), zero))


@jit
def _relu_loop(x, out, zero):  # type: ignore[no-untyped-def]
    lowest = np.int32(zero)
    for i in range(out.size):
        out[i] = max(np.int32(x[i]), lowest)


# --- registration

PAIRS = tuple((a, b) for a in ("i8", "i16", "i32") for b in ("i8", "i16", "i32"))
SUM_FORMS = (
    "i8 i8 i32 i8 i32 i8 i32 i8 -> i8",
    *(f"{a} {b} i32 i8 i32 i8 -> {y}" for a, b in PAIRS for y in ("i8", "i16") if {a, b, y} != {"i8"}),
    "i32 i32 -> i32",
)
MUL_FORMS = (
    *(f"{a} {b} i32 i8 -> {y}" for a, b in PAIRS if "i32" not in (a, b) for y in ("i8", "i16")),
    "i32 i32 -> i32",
)


def sum_op(name: str, sign: int, real: Callable[..., tuple[Any, ...]], doc: str) -> Op:
    """Register add or sub."""
    return register(
        Op(
            name,
            ("a", "b"),
            SUM_FORMS,
            infer_binary(name),
            real,
            prepare_sum,
            sum_reference(sign),
            at_once(sum_load(sign)),
            elementwise_work,
            doc,
            follow=follow_sum,
            load=when_constant(2, sum_load(sign)),
        )
    )


add = sum_op("add", 1, lambda xp, attrs, a, b: (a + b,), "y = a + b, each operand rescaled")
sub = sum_op("sub", -1, lambda xp, attrs, a, b: (a - b,), "y = a - b, each operand rescaled")
register(
    Op(
        "mul",
        ("a", "b"),
        MUL_FORMS,
        infer_binary("mul"),
        lambda xp, attrs, a, b: (a * b,),
        prepare_mul,
        mul_reference,
        at_once(load_mul),
        elementwise_work,
        "y = saturate(requantize((a - z_a)(b - z_b), multiplier, shift) + z_y)",
        follow=follow_mul,
        load=when_constant(2, load_mul),
    )
)
register(
    Op(
        "square",
        ("x",),
        ("i8 -> i32", "i16 -> i32"),
        same_shape,
        lambda xp, attrs, x: (x * x,),
        as_is,
        square_reference,
        at_once(load_square),
        elementwise_work,
        "y = (q - z)^2, exact, scale s^2",
        follow=follow_square,
        load=load_square,
        demands={0: "i16"},
    )
)
register(
    Op(
        "relu",
        ("x",),
        ("i8 -> i8", "i16 -> i16", "i32 -> i32"),
        same_shape,
        lambda xp, attrs, x: (xp.clip(x, 0.0, None),),
        as_is,
        relu_reference,
        at_once(load_relu),
        elementwise_work,
        "y = max(q, zero_point)",
        load=load_relu,
        moves=True,
    )
)
