"""Where the windows of a convolution or a pooling lie: strides, dilations, padding."""

import math
from collections.abc import Sequence

from nnaq.frontends.onnx_importer import Call
from nnaq.frontends.ports import Unsupported
from nnaq.ir.dims import Dim

LARGEST = 2**16  # kernel, stride, dilation or padding: what stands around an input must not fill the memory


def listed(call: Call, key: str, count: int) -> tuple[int, ...]:
    """An attribute of one number per spatial axis, 1 where it is absent."""
    return tuple(call.attrs.get(key, [1] * count))


def window_padding(
    call: Call, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[int, ...]:
    """Padding as (begin of every axis, then end of every axis), from `pads` or `auto_pad`."""
    if max(map(abs, (*kernel, *stride, *dilation, *call.attrs.get("pads", ()))), default=0) > LARGEST:
        raise Unsupported(f"its kernel, strides, dilations or pads are above {LARGEST}")
    mode, none = call.word("auto_pad", "NOTSET"), (0,) * 2 * len(kernel)
    if mode in ("NOTSET", "VALID"):
        return tuple(call.attrs.get("pads", none)) if mode == "NOTSET" else none
    begins, ends = [], []
    for size, k, s, d in zip(call.shape(0)[2:], kernel, stride, dilation, strict=True):
        total = _same_padding(size, (k - 1) * d + 1, s)
        short = total // 2
        begins.append(total - short if mode == "SAME_LOWER" else short)
        ends.append(short if mode == "SAME_LOWER" else total - short)
    return (*begins, *ends)


def _same_padding(size: Dim, extent: int, stride: int) -> int:
    """Padding under which ceil(size / stride) windows fit."""
    if stride == 1:
        return extent - 1
    if not isinstance(size, int):
        raise Unsupported(
            f"auto_pad with stride {stride} over the open axis {size!r}", "give the axis a size"
        )
    return max((math.ceil(size / stride) - 1) * stride + extent - size, 0)
