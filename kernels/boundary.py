"""Where reals become codes, codes change their scale, and codes become reals again.

    fake_quantize  y = (clamp(round(x / scale) + zero_point, low, high) - zero_point) * scale, in reals
    quantize       q = clamp(round(f32(x) / f32(scale)) + zero_point, low, high)
    dequantize     y = f32(q - zero_point) * f32(scale)
    rescale        q_y = saturate(requantize(q_x - z_x, multiplier, shift) + z_y)

`round` follows the attribute `rounding`: half_even (ONNX, torch) or half_away (TFLite). A NaN has
no code and is refused by the callers that read data. quantize and dequantize are the only nodes
of a lowered graph that touch a float. Division and product are float32 because that is what
every runtime does at its edge; the scales of activations are float32 values for this reason.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from nnaq.ir.dims import Shape
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
    Work,
    as_is,
    at_once,
    register,
)
from nnaq.ir.types import Palette, Quant, TensorType, bounds, storage
from nnaq.jit import jit
from nnaq.kernels.bound import bound
from nnaq.kernels.ends import dequantizer, quantizer
from nnaq.kernels.fixedpoint import (
    CODES,
    quantize_multipliers,
    requantize,
    requantize_reference,
    saturate,
    saturate_reference,
)
from nnaq.kernels.machine.maps import rescale_map
from nnaq.kernels.requantize_lanes import kind_of, limit_rows, rescaling_rows, stage_rows


def same_shape(inputs: tuple[TensorType | None, ...], attrs: Mapping[str, Attr]) -> tuple[Shape, ...]:
    """Result shape of an elementwise operator of one operand."""
    assert inputs[0] is not None
    return (inputs[0].shape,)


def elementwise_work(signature: Signature) -> Work:
    """One vector operation per result."""
    return Work(elementwise=int(np.prod(signature.outputs[0].shape)))  # type: ignore[arg-type]


def code_type(attrs: Mapping[str, Attr], shape: Shape) -> TensorType:
    """The type of the codes that a fake_quantize node with `attrs` stands for."""
    axis = attrs.get("axis", -1)
    assert isinstance(axis, int)
    assert isinstance(attrs["scale"], tuple)
    quant = Quant(tuple(map(float, attrs["scale"])), int(attrs["zero_point"]), None if axis < 0 else axis)  # type: ignore[arg-type]
    return TensorType(str(attrs["dtype"]), shape, quant, _palette(attrs))


def _palette(attrs: Mapping[str, Attr]) -> Palette | None:
    """The palette that `palette_attrs` wrote."""
    if "palette" not in attrs:
        return None
    entries, sizes = attrs["palette"], attrs["palette_sizes"]
    bits, rows, zeros = (attrs.get(f"palette_{name}", 0) for name in ("bits", "rows", "zeros"))
    assert isinstance(entries, tuple) and isinstance(sizes, tuple)
    assert isinstance(bits, int) and isinstance(rows, int) and isinstance(zeros, int)
    codes, ends = list(map(int, entries)), np.cumsum(sizes)
    tables = tuple(tuple(codes[end - size : end]) for size, end in zip(sizes, ends, strict=True))
    return Palette(bits, tables, rows, zeros if "palette_zeros" in attrs else None)


def palette_attrs(palette: Palette) -> dict[str, Attr]:
    """The attributes of a fake_quantize node whose codes have a palette: its tables one after the other."""
    attrs: dict[str, Attr] = {
        "palette": tuple(code for table in palette.tables for code in table),
        "palette_sizes": tuple(len(table) for table in palette.tables),
        "palette_bits": palette.bits,
        "palette_rows": palette.rows,
    }
    return attrs if palette.zeros is None else {**attrs, "palette_zeros": palette.zeros}


def quantize_attrs(kind: TensorType, rounding: str = "half_even") -> dict[str, Attr]:
    """The attributes of a fake_quantize node that stands for codes of type `kind`."""
    assert kind.quant is not None
    axis = -1 if kind.quant.axis is None else kind.quant.axis
    attrs: dict[str, Attr] = {
        "dtype": kind.dtype,
        "scale": kind.quant.scale,
        "zero_point": kind.zero_point,
        "axis": axis,
        "rounding": rounding,
    }
    return attrs if kind.palette is None else {**attrs, **palette_attrs(kind.palette)}


def round_real(xp: Any, x: Any, rounding: Attr) -> Any:
    """Round reals to whole numbers under a tie rule, against an array namespace."""
    if rounding == "half_away":
        # abs(x) + 0.5 would round in float32: the last float below a half must become 0.
        whole = xp.trunc(x)
        return whole + xp.sign(x) * (xp.abs(x - whole) >= 0.5)
    return xp.round(x)


def fake_quantize_real(xp: Any, attrs: Mapping[str, Attr], x: Any) -> tuple[Any, ...]:
    """Reals that lie on the grid of the codes."""
    kind = code_type(attrs, tuple(x.shape))
    low, high = code_bounds(kind)
    assert kind.quant is not None
    scale = kind.quant.scales(len(x.shape)).astype(np.float32)
    scale = scale if xp is np else xp.as_tensor(scale, device=x.device)
    codes = round_real(xp, x / scale, attrs.get("rounding", "half_even"))
    return ((xp.clip(codes, low - kind.zero_point, high - kind.zero_point)) * scale,)


def code_bounds(kind: TensorType) -> tuple[int, int]:
    """Codes a quantiser makes: weights (one scale per channel) stay symmetric, in [-127, 127]."""
    low, high = bounds(kind.dtype)
    symmetric = kind.quant is not None and kind.quant.axis is not None
    return (low + 1 if symmetric else low), high


def quantize_array(x: np.ndarray, kind: TensorType, rounding: str = "half_even") -> np.ndarray:
    """Codes of type `kind` for the reals `x`: q = clamp(round(f32(x) / f32(scale)) + zero_point)."""
    assert kind.quant is not None
    low, high = code_bounds(kind)
    if kind.quant.axis in (None, 0) and kind.dtype in ("i4", "i8", "i16"):
        with np.errstate(over="ignore"):
            reals = np.ascontiguousarray(x, np.float32)
        out = np.empty(x.shape, storage(kind.dtype))
        scales = np.array(kind.quant.scale, np.float32)
        rows = len(scales), x.size // len(scales)
        _quantize_rows(reals.reshape(rows), out.reshape(rows), scales, *quantize_limits(kind, rounding))
        return out
    scale = kind.quant.scales(x.ndim).astype(np.float32)
    with np.errstate(over="ignore"):  # a quotient beyond float32 is clamped like any other
        codes = round_real(np, x.astype(np.float32) / scale, rounding)
    limited = np.clip(codes, low - kind.zero_point, high - kind.zero_point).astype(np.int64)
    # float32 has no 2^31 - 1: its neighbour 2^31 passes the first limit
    return np.asarray(np.minimum(limited + kind.zero_point, high), storage(kind.dtype))


def quantize_limits(kind: TensorType, rounding: str) -> tuple[bool, np.float32, np.float32, int]:
    """Whether ties go away from zero, limits of codes less zero_point, zero_point."""
    low, high = code_bounds(kind)
    ends = np.float32(low - kind.zero_point), np.float32(high - kind.zero_point)
    return rounding == "half_away", *ends, kind.zero_point


@jit
def _quantize_rows(x, out, scales, away, low, high, zero_point):  # type: ignore[no-untyped-def]
    """One scale per row."""
    for r in range(len(out)):
        _quantize_loop(x[r], out[r], scales[r], away, low, high, zero_point)


@jit
def _quantize_loop(x, out, scale, away, low, high, zero_point):  # type: ignore[no-untyped-def]
    """Codes of at most 16 bits with one scale; low, high: float32, of the codes less zero_point.

    The limits are whole numbers, so that they may come before the rounding.
    """
    zero = np.int32(zero_point)
    for i in range(out.size):
        ratio = x[i] / scale
        ratio = ratio if ratio > low else low
        ratio = ratio if ratio < high else high
        if away:
            size = abs(ratio)
            whole = np.floor(size)
            whole = whole + np.float32(1.0) if size - whole >= np.float32(0.5) else whole
            code = np.int32(np.copysign(whole, ratio))
        else:
            code = np.int32(np.rint(ratio))
        out[i] = np.int32(code + zero)


def dequantize_array(codes: np.ndarray, kind: TensorType) -> np.ndarray:
    """Reals (float32) of codes of type `kind`."""
    assert kind.quant is not None
    if kind.quant.axis in (None, 0) and codes.dtype in (np.int8, np.int16):
        out, scales = np.empty(codes.shape, np.float32), np.array(kind.quant.scale, np.float32)
        rows = len(scales), codes.size // len(scales)
        _dequantize_rows(
            np.ascontiguousarray(codes).reshape(rows), out.reshape(rows), scales, kind.zero_point
        )
        return out
    centred = codes.astype(np.int64) - kind.zero_point
    return centred.astype(np.float32) * kind.quant.scales(codes.ndim).astype(np.float32)


@jit
def _dequantize_rows(codes, out, scales, zero_point):  # type: ignore[no-untyped-def]
    """One scale per row."""
    for r in range(len(out)):
        _dequantize_loop(codes[r], out[r], scales[r], zero_point)


@jit
def _dequantize_loop(codes, out, scale, zero_point):  # type: ignore[no-untyped-def]
    zero = np.int32(zero_point)
    for i in range(out.size):
        out[i] = np.float32(np.int32(np.int32(codes[i]) - zero)) * scale


def _quantize(signature: Signature, x: np.ndarray) -> Arrays:
    return (quantize_array(x, signature.outputs[0], str(signature.attrs.get("rounding", "half_even"))),)


def load_quantize(signature: Signature, constants: tuple[Any, ...]) -> Kernel:
    """Compiled where there is one scale."""
    kind = signature.outputs[0]
    if kind.quant is None or kind.quant.axis is not None:
        return partial(_quantize, signature)
    rounding = str(signature.attrs.get("rounding", "half_even"))
    if kind.dtype == "i32":
        return quantizer(kind, code_bounds(kind), rounding)
    dtypes, numbers = (storage(kind.dtype),) * 2, (np.float32(kind.scale), *quantize_limits(kind, rounding))
    return Bindable(lambda x: bound(_quantize_loop, ((x, np.float32),), x.shape, dtypes, *numbers))


def _quantize_reference(signature: Signature, x: np.ndarray) -> Arrays:
    """One value at a time, with Python's own integers and float32 arithmetic."""
    kind = signature.outputs[0]
    low, high = bounds(kind.dtype)
    scale = np.float32(kind.scale)
    away = signature.attrs.get("rounding") == "half_away"
    codes = []
    for value in x.ravel():
        ratio = float(np.float32(value) / scale)
        ratio = min(max(ratio, -(2.0**40)), 2.0**40)
        whole = int(np.sign(ratio)) * int(abs(ratio) + 0.5) if away else round(ratio)
        codes.append(saturate_reference(whole, kind.zero_point, low, high))
    return (np.array(codes, storage(kind.dtype)).reshape(x.shape),)


def _dequantize(signature: Signature, codes: np.ndarray) -> Arrays:
    return (dequantize_array(codes, signature.input(0)),)


def load_dequantize(signature: Signature, constants: tuple[Any, ...]) -> Kernel:
    """Compiled where there is one scale."""
    kind = signature.input(0)
    if kind.quant is None or kind.quant.axis is not None:
        return partial(_dequantize, signature)
    if kind.dtype == "i32":
        return dequantizer(kind)
    reals, numbers = (np.float32, np.float32), (np.float32(kind.scale), kind.zero_point)
    return Bindable(lambda x: bound(_dequantize_loop, ((x, x.dtype),), x.shape, reals, *numbers))


def _dequantize_reference(signature: Signature, codes: np.ndarray) -> Arrays:
    kind = signature.input(0)
    assert kind.quant is not None
    scales = np.broadcast_to(kind.quant.scales(codes.ndim), codes.shape).ravel()
    pairs = zip(codes.ravel(), scales, strict=True)
    reals = [np.float32(int(q) - kind.zero_point) * np.float32(scale) for q, scale in pairs]
    return (np.array(reals, np.float32).reshape(codes.shape),)


def _identity(xp: Any, attrs: Mapping[str, Attr], x: Any, *constants: Any) -> tuple[Any, ...]:
    return (x,)


def prepare_rescale(
    signature: Signature, constants: tuple[np.ndarray | None, ...], numerics: Numerics
) -> Prepared:
    """multiplier and shift of scale_x / scale_y."""
    ratio = np.array(signature.input(0).scale / signature.outputs[0].scale)
    multiplier, shift = quantize_multipliers(ratio, numerics.rounding, largest_distance(signature.input(0)))
    return Prepared((0, *multiplier_constants(multiplier, shift)), {"rounding": numerics.rounding})


def largest_distance(x: TensorType) -> int:
    """The largest |q - zero_point| of a type."""
    low, high = bounds(x.dtype)
    return max(high - x.zero_point, x.zero_point - low)


def multiplier_constants(multiplier: np.ndarray, shift: np.ndarray, prefix: str = "") -> tuple[Constant, ...]:
    """The two constants that every rescaling operator carries: multiplier i32 and shift i8."""
    return (
        Constant(f"{prefix}multiplier", TensorType("i32", multiplier.shape), multiplier),
        Constant(f"{prefix}shift", TensorType("i8", shift.shape), shift),
    )


def _rescale_reference(
    signature: Signature, x: np.ndarray, multiplier: np.ndarray, shift: np.ndarray
) -> Arrays:
    kind, zero_x = signature.outputs[0], signature.input(0).zero_point
    low, high = bounds(kind.dtype)
    rounding = str(signature.attrs["rounding"])
    codes = [
        saturate_reference(
            requantize_reference(int(q) - zero_x, int(multiplier), int(shift), rounding),
            kind.zero_point,
            low,
            high,
        )
        for q in x.ravel()
    ]
    return (np.array(codes, storage(kind.dtype)).reshape(x.shape),)


def load_rescale(signature: Signature, operands: tuple[Any, ...]) -> Kernel:
    """The same codes: from 256 of them for i8 codes, else in vector lanes where 32 bits hold them."""
    x, y = signature.input(0), signature.outputs[0]
    q, s, rounding = int(operands[1]), int(operands[2]), str(signature.attrs["rounding"])
    low, high = bounds(y.dtype)

    def one_by_one(codes: np.ndarray, *_: Any) -> Arrays:
        out = np.empty(codes.shape, np.int64)
        flat = np.ascontiguousarray(codes, np.int64).reshape(-1)
        limits = CODES[rounding], x.zero_point, y.zero_point, low, high
        _rescale_loop(flat, out.reshape(-1), q, s, *limits)
        return (out.astype(storage(y.dtype)),)

    if x.dtype == "i8":
        return by_code(one_by_one(np.arange(-128, 128))[0])
    zero = y.zero_point
    reach = max(map(abs, (end - x.zero_point for end in bounds(x.dtype))))
    stage = stage_rows(q, s, rounding, reach)
    rows = rescaling_rows((x.zero_point,), (stage,), limit_rows(zero, low, high))
    if rows is None or y.dtype == "i32":
        return one_by_one
    kind = kind_of(rounding)

    dtypes = (storage(y.dtype),) * 2
    return Bindable(
        lambda codes, *_: bound(_rescale_lanes, ((codes, codes.dtype),), codes.shape, dtypes, rows, kind)
    )


@jit
def _rescale_lanes(x, out, rows, kind):  # type: ignore[no-untyped-def]
    rescale_map(x, out, rows, kind)


def by_code(table: np.ndarray) -> Kernel:
    """The kernel that reads the result of an i8 code from 256 entries, beginning with that of -128."""
    entries = np.roll(table, 128)  # by the bits of the code
    dtypes = entries.dtype, entries.dtype
    return Bindable(lambda x, *_: bound(_look_up, ((x, np.int8),), x.shape, dtypes, entries))


@jit
def _look_up(x, out, table):  # type: ignore[no-untyped-def]
    places = x.view(np.uint8)
    for i in range(out.size):
        out[i] = table[places[i]]


def when_constant(
    first: int, load: Callable[[Signature, tuple[Any, ...]], Kernel]
) -> Callable[[Signature, tuple[Any, ...]], Kernel]:
    """`load` that waits for the call where an operand from `first` on is no constant."""

    def loaded(signature: Signature, operands: tuple[Any, ...]) -> Kernel:
        if any(operand is None for operand in operands[first:]):
            return partial(at_once(load), signature)
        return load(signature, operands)

    return loaded


@jit
def _rescale_loop(x, out, q, s, rounding, zero_x, zero_y, low, high):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        out[i] = saturate(requantize(np.int64(x[i]) - zero_x, q, s, rounding), zero_y, low, high)


register(
    Op(
        "fake_quantize",
        ("x",),
        (),
        same_shape,
        fake_quantize_real,
        as_is,
        _quantize_reference,
        _quantize,
        elementwise_work,
        "y = (clamp(round(x / scale) + zero_point, low, high) - zero_point) * scale",
    )
)
register(
    Op(
        "quantize",
        ("x",),
        ("f32 -> i8", "f32 -> i16", "f32 -> i32"),
        same_shape,
        _identity,
        as_is,
        _quantize_reference,
        at_once(load_quantize),
        elementwise_work,
        "q = clamp(round(f32(x) / f32(scale)) + zero_point, low, high)",
        load=load_quantize,
    )
)
register(
    Op(
        "dequantize",
        ("x",),
        ("i8 -> f32", "i16 -> f32", "i32 -> f32"),
        same_shape,
        _identity,
        as_is,
        _dequantize_reference,
        at_once(load_dequantize),
        elementwise_work,
        "y = f32(q - zero_point) * f32(scale)",
        load=load_dequantize,
    )
)
register(
    Op(
        "rescale",
        ("x",),
        tuple(f"{x} i32 i8 -> {y}" for x in ("i8", "i16", "i32") for y in ("i8", "i16", "i32")),
        same_shape,
        _identity,
        prepare_rescale,
        _rescale_reference,
        at_once(load_rescale),
        elementwise_work,
        "q_y = saturate(requantize(q_x - z_x, multiplier, shift) + z_y)",
        load=when_constant(1, load_rescale),
    )
)
