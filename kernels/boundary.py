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

from collections.abc import Mapping
from typing import Any

import numpy as np

from nnaq.ir.dims import Shape
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Arrays, Attr, Constant, Op, Prepared, Signature, Work, as_is, register
from nnaq.ir.types import Palette, Quant, TensorType, bounds, storage
from nnaq.jit import jit
from nnaq.kernels.fixedpoint import (
    CODES,
    quantize_multipliers,
    requantize,
    requantize_reference,
    saturate,
    saturate_reference,
)


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
    scale = kind.quant.scales(x.ndim).astype(np.float32)
    with np.errstate(over="ignore"):  # a quotient beyond float32 is clamped like any other
        codes = round_real(np, x.astype(np.float32) / scale, rounding)
    limited = np.clip(codes, low - kind.zero_point, high - kind.zero_point).astype(np.int64)
    # float32 has no 2^31 - 1: its neighbour 2^31 passes the first limit
    return np.asarray(np.minimum(limited + kind.zero_point, high), storage(kind.dtype))


def dequantize_array(codes: np.ndarray, kind: TensorType) -> np.ndarray:
    """Reals (float32) of codes of type `kind`."""
    assert kind.quant is not None
    centred = codes.astype(np.int64) - kind.zero_point
    return centred.astype(np.float32) * kind.quant.scales(codes.ndim).astype(np.float32)


def _quantize(signature: Signature, x: np.ndarray) -> Arrays:
    return (quantize_array(x, signature.outputs[0], str(signature.attrs.get("rounding", "half_even"))),)


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


def _rescale(signature: Signature, x: np.ndarray, multiplier: np.ndarray, shift: np.ndarray) -> Arrays:
    kind = signature.outputs[0]
    low, high = bounds(kind.dtype)
    out = np.empty(x.shape, storage(kind.dtype))
    code = CODES[str(signature.attrs["rounding"])]
    _rescale_loop(
        np.ascontiguousarray(x).reshape(-1),
        out.reshape(-1),
        int(multiplier),
        int(shift),
        code,
        signature.input(0).zero_point,
        kind.zero_point,
        low,
        high,
    )
    return (out,)


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
        _quantize,
        elementwise_work,
        "q = clamp(round(f32(x) / f32(scale)) + zero_point, low, high)",
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
        _dequantize,
        elementwise_work,
        "y = f32(q - zero_point) * f32(scale)",
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
        _rescale,
        elementwise_work,
        "q_y = saturate(requantize(q_x - z_x, multiplier, shift) + z_y)",
    )
)
