"""The body of conv_transpose1d and conv_transpose2d: the taps that meet each position, as rows.

One zero stands behind every axis of x; taps that bring no entry to a position read it.
"""

import numpy as np

from nnaq.export.bodies_fixedpoint import fused_relu, rescaler
from nnaq.export.bodies_windows import padded_by, products
from nnaq.export.body_builder import Body
from nnaq.ir.dims import Dim
from nnaq.ir.op import Signature
from nnaq.kernels.conv_transpose import Axis, geometry, groups_of
from nnaq.kernels.narrow import Narrow, narrow_of


def _sources(body: Body, axis: Axis, size: str, dim: Dim) -> str:
    """Indices [positions, kernel] into an axis with one zero behind it; `size` is its length without."""
    if isinstance(dim, int):
        found = [
            [dim if i is None else i for i in (axis.source(p, k, dim) for k in range(axis.kernel))]
            for p in range(axis.size(dim))
        ]
        return body.constant(np.array(found, np.int64).reshape(-1, axis.kernel))
    zero, stride = body.constant(0), body.constant(axis.stride)
    fixed = axis.extent - axis.stride + axis.extra - axis.begin - axis.end
    count = body.add(body.mul(size, stride), body.constant(fixed))
    positions = body.apply("Range", zero, count, body.constant(1))
    offsets = axis.begin - np.arange(axis.kernel, dtype=np.int64) * axis.dilation
    at = body.add(body.reshape(positions, (-1, 1)), body.constant(offsets))
    rest = body.apply("Mod", at, stride)
    entry = body.apply("Div", body.sub(at, rest), stride)
    inside = body.apply("And", body.apply("GreaterOrEqual", at, zero), body.apply("Less", entry, size))
    return body.apply("Where", body.apply("And", inside, body.apply("Equal", rest, zero)), entry, size)


def _sums(
    body: Body,
    signature: Signature,
    x: str,
    weight: str,
    zero: int | np.ndarray,
    narrow: Narrow | None = None,
    bias: str | None = None,
) -> str:
    """Sums [N, *positions, O] of centred x and weight, and bias, all INT64 or all FLOAT like `zero`."""
    kind_w, groups = signature.input(1), groups_of(signature.attrs)
    channels, per_group, *kernel = (int(dim) for dim in kind_w.shape)
    rank, inner = len(kernel), channels // groups
    split = body.reshape(weight, (groups, inner, per_group, *kernel))
    weights = body.transpose(split, (0, 2, 1, *range(3, 3 + rank)))
    rows, depth = _rows(body, signature, x, zero), inner * int(np.prod(kernel))
    return products(body, rows, weights, rank, groups, groups * per_group, depth, narrow, bias)


def _rows(body: Body, signature: Signature, x: str, zero: int | np.ndarray) -> str:
    """What every tap brings to every position: [N, *positions, C, *kernel]."""
    kind, axes = signature.input(0), geometry(signature.attrs, signature.input(1).shape[2:])
    rank = len(axes)
    rows = padded_by(body, x, [(0, 1)] * rank, zero)
    for i in reversed(range(rank)):
        size = body.size(x, i + 2, kind.shape[i + 2])
        rows = body.take(rows, _sources(body, axes[i], size, kind.shape[i + 2]), i + 2)
    return body.transpose(rows, (0, *range(2, 2 + 2 * rank, 2), 1, *range(3, 3 + 2 * rank, 2)))


def conv_transpose(
    body: Body, signature: Signature, x: str, weight: str, bias: str, multiplier: str, shift: str
) -> tuple[str, ...]:
    """Rows of taps, one MatMul per group, channels moved back in front."""
    kind_x, kind_w, kind_y = signature.input(0), signature.input(1), signature.outputs[0]
    operands = body.centred(x, kind_x.zero_point), body.centred(weight, kind_w.zero_point)
    narrow = narrow_of(signature.attrs, kind_x)
    total = _sums(body, signature, *operands, 0, narrow, body.wide(bias))
    scaling = rescaler(body, multiplier, shift, signature.attrs["rounding"], wide=kind_x.dtype != "i8")
    codes = scaling.to_codes(body, total, kind_y, fused_relu(signature))
    return (_channels_first(body, signature, body.codes(codes, kind_y.dtype)),)


def _channels_first(body: Body, signature: Signature, y: str) -> str:
    rank = signature.input(0).rank
    return body.transpose(y, (0, rank - 1, *range(1, rank - 1)))


def real_conv_transpose(
    body: Body, signature: Signature, x: str, weight: str, bias: str = ""
) -> tuple[str, ...]:
    """The same in FLOAT: runtimes differ on ConvTranspose with groups and with uncommon paddings."""
    y = _sums(body, signature, x, weight, np.array(0, np.float32))
    y = _channels_first(body, signature, body.add(y, bias) if signature.has(2) else y)
    return (body.apply("Relu", y) if fused_relu(signature) else y,)
