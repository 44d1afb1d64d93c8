"""Sums and means that run along an axis.

    cumulative_sum   S_t = Σ_{u <= t} (q_u - z_x), exclusive: u < t, reverse: from the far end;
                     then the code of S_t as in reduce_sum (kernels/reduce.py): i32 with scale s_x,
                     sat32(S_t), or sat(R(A_t, s_x / s_y) + z_y) with A_t = S_t saturated to the
                     accumulator (i32 for i8 codes, i48 for wider ones)

    running_mean     x[T,B,C], sum[B,C], count[B,1] -> mean[T,B,C], sum[B,C], count[B,1]; for every t
                         if count >= limit:  sum = sum >> 1,  count = count >> 1
                         sum = sat32(sum + q_t - z_x),  count = count + 1
                         T = R(sum, 2^g s_x / s_y)
                         mean_t = sat(half_away(T / (max(count, 1) 2^g)) + z_y)

half_away and g (the guard bits) are those of reduce_mean over an open axis, and so is the bound:
1/2 + |y| 2^-31 + 2^-(g+1)/count in units of the result. sum holds codes of scale s_x in i32, count whole
numbers in i32; both start at 0. From the attribute `limit` on (2^15 frames where it is absent) both
are halved, so that the mean goes on as one over the last limit/2 to limit frames, older ones fading
by half each time, and sum never wraps: limit * max|q - z_x| < 2^31 is demanded when prepared. The
floor of a halving moves a mean by less than 1/limit of a code of x. A frame knows only its states,
so that a whole utterance and any chunks of it give the same bits.

A machine without a divider tables the reciprocals of the divisors, as in kernels/reduce.py.
"""

import math
from functools import partial
from typing import Any

import numpy as np

from nnaq.errors import GraphError, LoweringError
from nnaq.ir.dims import Shape, show
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Arrays, Bindable, Op, Prepared, Signature, Work, at_once, register
from nnaq.ir.types import TensorType, bounds, storage
from nnaq.jit import jit
from nnaq.kernels.bound import Bound, Copy, Run, together
from nnaq.kernels.boundary import largest_distance, when_constant
from nnaq.kernels.fixedpoint import CODES, requantize, saturate
from nnaq.kernels.movement import Attrs, Types, axis_of, operand
from nnaq.kernels.reduce import (
    SUM_FORMS,
    divided,
    exact_total,
    prepare_divided,
    prepare_total,
    total_codes,
    total_codes_reference,
)

LIMIT = 2**15
LOWEST, HIGHEST = np.int64(-(2**31)), np.int64(2**31 - 1)


def _axis(attrs: Attrs, rank: int) -> int:
    return axis_of(attrs.get("axis", None), rank, "cumulative_sum")  # type: ignore[arg-type]


def infer_cumulative(inputs: Types, attrs: Attrs) -> tuple[Shape, ...]:
    kind = operand(inputs)
    _axis(attrs, kind.rank)
    return (kind.shape,)


def _running(xp: Any, attrs: Attrs, x: Any) -> Any:
    """The sums of `attrs` in the dtype of x; an exclusive sum lacks the entry it stands at."""
    axis = _axis(attrs, len(x.shape))
    turned = xp.flip(x, (axis,)) if attrs.get("reverse", False) else x
    sums = xp.cumsum(turned, axis=axis, dtype=x.dtype)
    sums = sums - turned if attrs.get("exclusive", False) else sums
    return xp.flip(sums, (axis,)) if attrs.get("reverse", False) else sums


def real_cumulative(xp: Any, attrs: Attrs, x: Any) -> tuple[Any, ...]:
    return (_running(xp, attrs, x),)


def _entries(signature: Signature) -> int | None:
    x = signature.input(0)
    size = x.shape[_axis(signature.attrs, x.rank)]
    return size if isinstance(size, int) else None


def follow_cumulative(signature: Signature) -> tuple[TensorType, ...] | None:
    """i32 where no sum can leave it, as in reduce_sum."""
    return exact_total(signature.input(0), _entries(signature), signature.outputs[0].shape)


def prepare_cumulative(
    signature: Signature, constants: tuple[np.ndarray | None, ...], numerics: Numerics
) -> Prepared:
    return prepare_total(signature, numerics, _entries(signature))


def reference_cumulative(signature: Signature, x: np.ndarray, *rescale: np.ndarray) -> Arrays:
    """One line along the axis at a time, in Python integers."""
    attrs, zero_point = signature.attrs, signature.input(0).zero_point
    lines = np.moveaxis(x, _axis(attrs, x.ndim), -1)
    codes = []
    for place in np.ndindex(*lines.shape[:-1]):
        line, total, totals = [int(q) - zero_point for q in lines[place]], 0, []
        for value in reversed(line) if attrs.get("reverse", False) else line:
            totals.append(total if attrs.get("exclusive", False) else total + value)
            total += value
        totals = totals[::-1] if attrs.get("reverse", False) else totals
        codes.extend(total_codes_reference(signature, totals, [int(c) for c in rescale]))
    made = np.array(codes, storage(signature.outputs[0].dtype)).reshape(lines.shape)
    return (np.ascontiguousarray(np.moveaxis(made, -1, _axis(attrs, x.ndim))),)


def fast_cumulative(signature: Signature, x: np.ndarray, *rescale: np.ndarray) -> Arrays:
    totals = _running(np, signature.attrs, x.astype(np.int64) - signature.input(0).zero_point)
    return (total_codes(signature, totals, rescale),)


def work(signature: Signature) -> Work:
    """One vector operation per entry."""
    return Work(elementwise=math.prod(signature.input(0).shape))  # type: ignore[arg-type]


# --- running_mean


def limit_of(attrs: Attrs) -> int:
    """The number of frames at which sum and count are halved."""
    limit = attrs.get("limit", LIMIT)
    if not isinstance(limit, int) or not 2 <= limit <= 2**22:
        raise GraphError(f"running_mean takes a limit from 2 to 2^22 frames, found {limit!r}")
    return limit


def infer_mean(inputs: Types, attrs: Attrs) -> tuple[Shape, ...]:
    x, total, count = (operand(inputs, position).shape for position in range(3))
    limit_of(attrs)
    if len(x) != 3 or total != x[1:] or count != (x[1], 1):
        raise GraphError(
            "running_mean takes x[T,B,C], sum[B,C] and count[B,1], "
            f"found {show(x)}, {show(total)} and {show(count)}"
        )
    return x, total, count


def real_mean(xp: Any, attrs: Attrs, x: Any, total: Any, count: Any) -> tuple[Any, ...]:
    """All frames at once where no count reaches the limit, else frame by frame."""
    limit = limit_of(attrs)
    if x.shape[0] == 0:
        return x, total, count
    if bool((count + x.shape[0] <= limit).all()):
        ones = xp.ones_like(x[:, :, :1])
        sums = total + xp.cumsum(x, axis=0, dtype=x.dtype)
        counts = count + xp.cumsum(ones, axis=0, dtype=x.dtype)
        return sums / xp.clip(counts, 1, None), sums[-1], counts[-1]
    means = []
    for frame in x:
        full = count >= limit
        total = xp.where(full, total / 2, total) + frame
        count = xp.where(full, xp.floor(count / 2), count) + 1
        means.append(total / xp.clip(count, 1, None))
    return xp.stack(means), total, count


def prepare_mean(
    signature: Signature, constants: tuple[np.ndarray | None, ...], numerics: Numerics
) -> Prepared:
    """multiplier and shift of 2^g s_x / s_y; the proof that no sum wraps before it is halved."""
    x, limit = signature.input(0), limit_of(signature.attrs)
    reach = limit * largest_distance(x)
    if reach >= 2**31:
        raise LoweringError(
            f"running_mean: {limit} frames of {x.dtype} codes can sum to {reach}, i32 holds less than 2^31; "
            "lower the limit"
        )
    if signature.input(1).scale != x.scale:
        raise LoweringError(
            f"running_mean: the sum has the scale {signature.input(1).scale!r}, not that of x, {x.scale!r}"
        )
    made = prepare_divided(signature, numerics)
    return Prepared((0, 1, 2, *made.operands[1:]), {**made.attrs, "limit": limit})


def reference_mean(
    signature: Signature,
    x: np.ndarray,
    total: np.ndarray,
    count: np.ndarray,
    multiplier: np.ndarray,
    shift: np.ndarray,
) -> Arrays:
    """One channel at a time, frame after frame, in Python integers."""
    limit, zero_point = limit_of(signature.attrs), signature.input(0).zero_point
    low, high = bounds("i32")
    means = np.empty(x.shape, storage(signature.outputs[0].dtype))
    sums, counts = np.empty(total.shape, np.int32), count.copy()
    for b, c in np.ndindex(*x.shape[1:]):
        held, n = int(total[b, c]), int(count[b, 0])
        for t in range(len(x)):
            if n >= limit:
                held, n = held >> 1, n >> 1
            held, n = min(max(held + int(x[t, b, c]) - zero_point, low), high), n + 1
            (means[t, b, c],) = total_codes_reference(signature, [held], [int(multiplier), int(shift)], [n])
        sums[b, c] = held
    for b in range(len(count)):
        for _ in range(len(x)):
            n = int(counts[b, 0])
            counts[b, 0] = (n >> 1 if n >= limit else n) + 1
    return means, sums, counts


def load_mean(signature: Signature, operands: tuple[Any, ...]) -> Bindable:
    """The same codes from one compiled loop; sum and count are copied, then advanced in place."""
    x, y, attrs = signature.input(0), signature.outputs[0], signature.attrs
    behind = (
        int(attrs["guard_bits"]), int(operands[3]), int(operands[4]), CODES[str(attrs["rounding"])],  # type: ignore[arg-type]
        y.zero_point, *bounds(y.dtype),
    )  # fmt: skip

    def bind(codes: np.ndarray, total: np.ndarray, count: np.ndarray, *_: Any) -> Bound:
        means, made = np.empty(codes.shape, storage(y.dtype)), storage("i32")
        sums, counts = np.empty(total.shape, made), np.empty(count.shape, made)
        frames = np.ascontiguousarray(codes)
        numbers = frames, x.zero_point, sums, counts, limit_of(attrs), *behind, means
        runs: list[Run] = [Copy(sums, total), Copy(counts, count), partial(_mean_loop, *numbers)]
        return (means, sums, counts), together(runs)

    return Bindable(bind)


@jit
def _mean_loop(  # type: ignore[no-untyped-def]
    x, zero_x, total, count, limit, guard, q, s, rounding, zero_y, low, high, means
):
    """The mean after every frame; total and count end as the last of them."""
    for t in range(x.shape[0]):
        for b in range(x.shape[1]):
            n = np.int64(count[b, 0])
            full = n >= limit
            n = (n >> 1 if full else n) + 1
            count[b, 0] = n
            divisor = max(n, 1) << guard
            for c in range(x.shape[2]):
                held = np.int64(total[b, c])
                held = (held >> 1 if full else held) + np.int64(x[t, b, c]) - zero_x
                held = min(max(held, LOWEST), HIGHEST)
                total[b, c] = held
                means[t, b, c] = saturate(
                    divided(requantize(held, q, s, rounding), divisor), zero_y, low, high
                )


def work_mean(signature: Signature) -> Work:
    """A sum, a rescale and a division per entry."""
    return Work(elementwise=3 * math.prod(signature.input(0).shape))  # type: ignore[arg-type]


# --- registration

register(
    Op(
        "cumulative_sum",
        ("x",),
        SUM_FORMS,
        infer_cumulative,
        real_cumulative,
        prepare_cumulative,
        reference_cumulative,
        fast_cumulative,
        work,
        "S_t = Σ_{u <= t} (q_u - z_x);  y = sat32(S_t), or saturate(requantize(S_t) + z_y)",
        follow=follow_cumulative,
    )
)
register(
    Op(
        "running_mean",
        ("x", "sum", "count"),
        tuple(f"{x} i32 i32 i32 i8 -> {y} i32 i32" for x in ("i8", "i16") for y in ("i8", "i16")),
        infer_mean,
        real_mean,
        prepare_mean,
        reference_mean,
        at_once(load_mean),
        work_mean,
        "sum += q - z_x, count += 1, both halved at the limit; mean = saturate(R(sum) / count + z_y)",
        ties=((1, ~1), (2, ~2)),
        demands={1: "accumulates 0", 2: "whole"},
        load=when_constant(3, load_mean),
    )
)
