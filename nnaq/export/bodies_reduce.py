"""Bodies of reductions: sums in INT64, one rescale and, where the count is open, one division."""

from nnaq.export.bodies_fixedpoint import rescaler, saturate
from nnaq.export.body_builder import Body
from nnaq.ir.op import Signature
from nnaq.ir.types import bounds
from nnaq.kernels.reduce import SUM_TYPES, reduced_axes


def half_away(body: Body, total: str, divisor: str) -> str:
    """total / divisor to the nearest whole number, ties away from zero."""
    half = body.apply("Div", divisor, body.constant(2))
    size = body.apply("Div", body.add(body.apply("Abs", total), half), divisor)
    return body.mul(body.apply("Sign", total), size)


def total_codes(
    body: Body, signature: Signature, total: str, rescale: tuple[str, ...], count: str = ""
) -> str:
    """Codes of exact sums; count: what each is divided by, for a mean over an open axis."""
    kind_x, kind_y = signature.input(0), signature.outputs[0]
    if not rescale:
        return body.codes(body.clip(total, *bounds("i32")), "i32")
    accumulator = SUM_TYPES[kind_x.dtype]
    multiplier, shift = rescale
    scaling = rescaler(body, multiplier, shift, signature.attrs["rounding"], wide=accumulator != "i32")
    value = scaling.requantize(body, body.clip(total, *bounds(accumulator)))
    if count:
        steps = body.constant(1 << int(signature.attrs["guard_bits"]))  # type: ignore[arg-type]
        value = half_away(body, value, body.mul(body.apply("Max", count, body.constant(1)), steps))
    return body.codes(saturate(body, value, kind_y), kind_y.dtype)


def reduced(body: Body, signature: Signature, op: str, x: str) -> str:
    """ONNX's reduction `op` along the axes of the node; x itself where there are none."""
    axes = reduced_axes(signature.attrs, signature.input(0).rank, "a reduction")
    if not axes:
        return body.apply("Identity", x)
    return body.apply(op, x, body.constant(axes), keepdims=int(bool(signature.attrs.get("keepdims", False))))


def total(body: Body, signature: Signature, x: str, *rescale: str) -> tuple[str, ...]:
    """reduce_sum and reduce_mean."""
    kind = signature.input(0)
    sums = reduced(body, signature, "ReduceSum", body.centred(x, kind.zero_point))
    if "guard_bits" not in signature.attrs:
        return (total_codes(body, signature, sums, rescale),)
    count = body.constant(1)
    for axis in reduced_axes(signature.attrs, kind.rank, "reduce_mean"):
        count = body.mul(count, body.size(x, axis, kind.shape[axis]))
    return (total_codes(body, signature, sums, rescale, count),)


def largest(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    return (body.codes(reduced(body, signature, "ReduceMax", body.wide(x)), signature.input(0).dtype),)


def smallest(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    return (body.codes(reduced(body, signature, "ReduceMin", body.wide(x)), signature.input(0).dtype),)


# --- over the reals


def real_sum(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    return (reduced(body, signature, "ReduceSum", x),)


def real_mean(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    return (reduced(body, signature, "ReduceMean", x),)


def real_largest(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    return (reduced(body, signature, "ReduceMax", x),)


def real_smallest(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    return (reduced(body, signature, "ReduceMin", x),)
