"""Bodies at the edges: quantize, dequantize and rescale."""

import numpy as np

from nnaq.export.bodies_fixedpoint import rescaler
from nnaq.export.body_builder import Body
from nnaq.ir.op import Signature
from nnaq.kernels.boundary import code_bounds


def quantize(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    """q = clamp(round(x / scale) + zero_point, low, high); division and rounding in float32."""
    kind = signature.outputs[0]
    assert kind.quant is not None
    ratio = body.apply("Div", x, body.constant(kind.quant.scales(kind.rank).astype(np.float32)))
    if signature.attrs.get("rounding") == "half_away":
        size = body.apply("Abs", ratio)
        down = body.apply("Floor", size)  # size + 0.5 would round in float32, as in the kernel
        half = body.apply("GreaterOrEqual", body.sub(size, down), body.constant(np.array(0.5, np.float32)))
        whole = body.mul(body.apply("Sign", ratio), body.add(down, body.codes(half, "f32")))
    else:
        whole = body.apply("Round", ratio)
    low, high = (np.array(limit - kind.zero_point, np.float32) for limit in code_bounds(kind))
    limited = body.apply("Clip", whole, body.constant(low), body.constant(high))
    wide = body.centred(limited, -kind.zero_point)
    if kind.dtype == "i32":  # float32 has no 2^31 - 1: its neighbour 2^31 passes the first limit
        wide = body.clip(wide, *code_bounds(kind))
    return (body.codes(wide, kind.dtype),)


def dequantize(body: Body, signature: Signature, codes: str) -> tuple[str, ...]:
    """y = f32(q - zero_point) * f32(scale)."""
    kind = signature.input(0)
    assert kind.quant is not None
    scale = body.constant(kind.quant.scales(kind.rank).astype(np.float32))
    return (body.mul(body.codes(body.centred(codes, kind.zero_point), "f32"), scale),)


def rescale(body: Body, signature: Signature, x: str, multiplier: str, shift: str) -> tuple[str, ...]:
    """q_y = saturate(requantize(q_x - z_x, multiplier, shift) + z_y)."""
    source, kind = signature.input(0), signature.outputs[0]
    scaling = rescaler(body, multiplier, shift, signature.attrs["rounding"])
    return (body.codes(scaling.to_codes(body, body.centred(x, source.zero_point), kind), kind.dtype),)
