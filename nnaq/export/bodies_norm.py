"""Bodies of the normalisations: exact sums, one reciprocal root per row, weight and bias in one rescale.

Rows stay axes of x; group_norm looks at x as [N, groups, channels of a group, rest]. Whatever
hangs on the number of entries is worked out from the shape at run time, as in the kernels.
"""

from collections.abc import Callable, Sequence

import numpy as np

from nnaq.export.bodies_fixedpoint import rescaler
from nnaq.export.bodies_roots import reciprocal_root
from nnaq.export.body_builder import Body
from nnaq.ir.op import Signature
from nnaq.kernels.norm import GROUP, L2, LAYER, RMS, check_epsilon, first_axis
from nnaq.kernels.norm_rows import COUNT_BITS, EPSILON_BITS, Rule

MakeBody = Callable[..., tuple[str, ...]]


# --- over codes


def over_last(rule: Rule) -> MakeBody:
    """layer_norm, rms_norm and l2_normalize: rows over axis … last."""

    def make(body: Body, signature: Signature, x: str, *constants: str) -> tuple[str, ...]:
        kind = signature.input(0)
        axes = list(range(first_axis(rule.name, signature.attrs, kind.rank), kind.rank))
        count = body.constant(int(np.prod([int(kind.shape[axis]) for axis in axes], dtype=np.int64)))
        v = body.centred(x, 0 if rule.centred else kind.zero_point)
        z = _normalised(body, rule, v, axes, count, *constants[4:])
        return (_affine(body, signature, z, *constants[:4]),)

    return make


def group_norm(body: Body, signature: Signature, x: str, *constants: str) -> tuple[str, ...]:
    """Rows over the channels of a group and everything behind them."""
    inner, count, parameters = _grouped(body, signature, x, constants[:4])
    z = _normalised(body, GROUP, body.wide(inner), [2, 3], count, *constants[4:])
    y = _affine(body, signature, z, *parameters)
    return (body.apply("Reshape", y, body.apply("Shape", x)),)


def batch_norm(body: Body, signature: Signature, x: str, *constants: str) -> tuple[str, ...]:
    kind = signature.input(0)
    parameters = [body.reshape(part, (-1, *[1] * (kind.rank - 2))) for part in constants]
    return (_affine(body, signature, body.centred(x, kind.zero_point), *parameters),)


def _grouped(
    body: Body, signature: Signature, x: str, parameters: Sequence[str]
) -> tuple[str, str, list[str]]:
    """x as [N, groups, parts, rest], the entries of a row, and parameters [groups, parts, 1] or ()."""
    groups, channels = int(signature.attrs["groups"]), int(signature.input(0).shape[1])  # type: ignore[arg-type]
    parts = channels // groups
    inner = body.reshape(x, (0, groups, parts, -1))
    rest = body.reshape(body.apply("Shape", inner, start=3, end=4), ())
    shaped = [
        body.reshape(part, (groups, parts, 1)) if signature.input(i).shape else part
        for i, part in enumerate(parameters, 1)
    ]
    return inner, body.mul(rest, body.constant(parts)), shaped


def _affine(
    body: Body, signature: Signature, z: str, weight: str, bias: str, multiplier: str, shift: str
) -> str:
    """sat(R(w z + B, multiplier, shift) + z_y) as codes."""
    kind = signature.outputs[0]
    total = body.add(body.mul(z, body.wide(weight)), body.wide(bias))
    scaling = rescaler(body, multiplier, shift, signature.attrs["rounding"], wide=True)
    return body.codes(scaling.to_codes(body, total, kind), kind.dtype)


def _normalised(
    body: Body, rule: Rule, v: str, axes: list[int], count: str,
    table: str, epsilon: str, epsilon_shift: str, room: str,
) -> str:  # fmt: skip
    """z of every entry, INT64."""
    one, summed = body.constant(1), body.constant(axes)
    divisor = count if rule.counted else one
    size = _bits_of_count(body, rule, count)
    h = body.sub(body.wide(room), size)
    u = body.mul(divisor, body.apply("ReduceSum", body.mul(v, v), summed, keepdims=1))
    d = body.mul(divisor, v)
    if rule.centred:
        total = body.apply("ReduceSum", v, summed, keepdims=1)
        u, d = body.sub(u, body.mul(total, total)), body.sub(d, total)
    unit = body.power(body.add(h, h))
    e = _epsilon(body, divisor, size, body.wide(epsilon), body.wide(epsilon_shift))
    joined = body.apply("Add" if rule.counted else "Max", body.mul(u, unit), e)
    b, k = _reciprocal_root(body, body.apply("Max", joined, unit), table)
    right = body.sub(body.constant(45 - rule.fraction), body.add(k, h))
    half = body.power(body.sub(right, one))
    return body.shift_right(body.add(body.mul(d, b), half), body.add(half, half))


def _bits_of_count(body: Body, rule: Rule, count: str) -> str:
    """B: how many powers of two (of four, where squares are summed only) the count reaches."""
    powers = [1 << (j if rule.counted else 2 * j) for j in range(COUNT_BITS + 1)]
    reached = body.flag("LessOrEqual", body.constant(powers), count)
    return body.apply("ReduceSum", reached, body.constant([-1]), keepdims=0)


def _epsilon(body: Body, divisor: str, size: str, epsilon: str, shift: str) -> str:
    """E_n; the product N^2 * epsilon leaves 64 bits and is made of two."""
    n = body.mul(divisor, body.power(body.sub(body.constant(COUNT_BITS), size)))
    square = body.mul(n, n)
    low = body.apply("BitwiseAnd", square, body.constant((1 << EPSILON_BITS) - 1))
    high = body.shift_right_by(square, EPSILON_BITS)
    carry = body.shift_right_by(body.mul(low, epsilon), EPSILON_BITS)
    return body.shift_right(body.add(body.mul(high, epsilon), carry), body.power(shift))


def _reciprocal_root(body: Body, v: str, table: str) -> tuple[str, str]:
    """b and k of a V from 1 to 2^62: k = 15 less the powers of four, from 4 on, that V reaches."""
    powers = body.constant([1 << (2 * j) for j in range(1, 31)])
    reached = body.flag("GreaterOrEqual", body.apply("Unsqueeze", v, body.constant([-1])), powers)
    found = body.apply("ReduceSum", reached, body.constant([-1]), keepdims=0)
    k = body.sub(body.constant(15), found)
    twice, zero = body.add(k, k), body.constant(0)
    up = body.power(body.apply("Max", twice, zero))
    down = body.power(body.apply("Max", body.apply("Neg", twice), zero))
    return reciprocal_root(body, body.shift_right(body.mul(v, up), down), table), k


layer_norm, rms_norm, l2_normalize = over_last(LAYER), over_last(RMS), over_last(L2)


# --- over the reals


def _number(body: Body, value: float) -> str:
    return body.constant(np.array(value, np.float32))


def real_over_last(rule: Rule) -> MakeBody:
    """The float body of layer_norm, rms_norm or l2_normalize."""

    def make(body: Body, signature: Signature, x: str, *parameters: str) -> tuple[str, ...]:
        kind = signature.input(0)
        axes = list(range(first_axis(rule.name, signature.attrs, kind.rank), kind.rank))
        y = _standardised(body, signature, rule, x, axes)
        there = [name for i, name in enumerate(parameters, 1) if signature.has(i)]
        return (_weighed(body, signature, y, there),)

    return make


def real_group_norm(body: Body, signature: Signature, x: str, *parameters: str) -> tuple[str, ...]:
    there = [name for i, name in enumerate(parameters, 1) if signature.has(i)]
    groups, channels = int(signature.attrs["groups"]), int(signature.input(0).shape[1])  # type: ignore[arg-type]
    inner = body.reshape(x, (0, groups, channels // groups, -1))
    shaped = [body.reshape(part, (groups, channels // groups, 1)) for part in there]
    y = _weighed(body, signature, _standardised(body, signature, GROUP, inner, [2, 3]), shaped)
    return (body.apply("Reshape", y, body.apply("Shape", x)),)


def real_batch_norm(body: Body, signature: Signature, x: str, factor: str, offset: str) -> tuple[str, ...]:
    shape = (-1, *[1] * (signature.input(0).rank - 2))
    return (body.add(body.mul(x, body.reshape(factor, shape)), body.reshape(offset, shape)),)


def _weighed(body: Body, signature: Signature, y: str, parameters: Sequence[str]) -> str:
    """y * weight + bias, whichever is there."""
    rest = list(parameters)
    if signature.has(1):
        y = body.mul(y, rest.pop(0))
    return body.add(y, rest[0]) if rest else y


def _standardised(body: Body, signature: Signature, rule: Rule, x: str, axes: list[int]) -> str:
    """x divided by its root; a row whose divisor is 0 stays what it is: zeros."""
    reduced = body.constant(axes)
    if rule.centred:
        x = body.sub(x, body.apply("ReduceMean", x, reduced, keepdims=1))
    square = body.mul(x, x)
    epsilon = _number(body, rule.square_of_epsilon(check_epsilon(rule.name, signature.attrs)))
    if rule.counted:
        squares = body.add(body.apply("ReduceMean", square, reduced, keepdims=1), epsilon)
    else:
        squares = body.apply("Max", body.apply("ReduceSum", square, reduced, keepdims=1), epsilon)
    none = body.codes(body.apply("Equal", squares, _number(body, 0)), "f32")
    return body.apply("Div", x, body.apply("Sqrt", body.add(squares, none)))


real_layer_norm, real_rms_norm, real_l2_normalize = (real_over_last(rule) for rule in (LAYER, RMS, L2))
