"""Gradients that are written out: of the operators in which most of a training step goes.

Each is the gradient of the operator's meaning over the reals (`Op.real`), dy its upstream gradient with 0
where the result saturated, sums over all rows:

    fully_connected    dx = dy W;  dW = Σ dy' x;  db = Σ dy
    matmul             da = gain * dy b';  db = gain * a' dy
    conv1d, conv2d     by ATen, from dy, x and W
    a table of i8      dx = dy * slope[code of x], the slopes found for the 256 codes there are
    layer_norm         by ATen, from dy, x, mean and 1 / root
    softmax            dx = y * (dy - Σ dy y), without a mask

What clamping may have changed, codes at an end of their range, is mostly little: of a sum of products only
those entries are made again over the reals, row by column. A fused relu asks for all of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from nnaq.ir.op import Attr, Signature, lookup
from nnaq.kernels.conv import geometry, windows_real
from nnaq.kernels.matmul import gain_of
from nnaq.kernels.norm import check_epsilon, first_axis
from nnaq.train.codes import Ends, by_code, cleared, ends_of, reals_of

CODES_OF_8 = torch.arange(-128, 128, dtype=torch.int8)
FEW = 64  # an entry of a product, made by itself, takes as long as so many of a whole one
TOGETHER = 2**12  # entries that are made at a time

Gradients = list[Tensor | None]
Entries = Callable[[Tensor], tuple[Tensor, Tensor, Tensor | None]]


@dataclass(frozen=True)
class Behind:
    """An integer node and its upstream gradients.

    op, attrs: of its real form. codes: of its operands. links: which operands are what their codes stand for;
    own: what the others are, None where one is absent. wanted: operands that have a gradient. ends: of each
    result, None where nothing is rounded.
    """

    op: str
    attrs: Mapping[str, Attr]
    signature: Signature
    codes: Sequence[Tensor | None]
    links: Sequence[bool]
    own: Sequence[Tensor | None]
    wanted: Sequence[bool]
    upstream: Sequence[Tensor]
    ends: Sequence[Ends | None]

    def real(self, place: int) -> Tensor | None:
        """What an operand is, None where it is absent."""
        if place >= len(self.own):
            return None
        codes = self.codes[place] if self.links[place] else None
        return self.own[place] if codes is None else reals_of(codes, self.signature.input(place))

    def operand(self, place: int) -> Tensor:
        """What an operand is that must be there."""
        found = self.real(place)
        assert found is not None
        return found

    def passed(self, whole: Callable[[], Tensor], at: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """dy of the first result. whole, at: see `Ends.clipped`; where places are many, whole is quicker."""
        (dy, *_), (ends, *_) = self.upstream, self.ends
        if ends is None:
            return dy
        are_few = ends.places is not None and FEW * ends.places.numel() <= dy.numel()
        return cleared(dy, ends.clipped(whole, at if are_few else None))


def written(behind: Behind) -> Gradients | None:
    """The gradients of all operands, None for those that are not wanted; None where none are written out."""
    if is_table_of_8(behind.signature):
        return _of_table(behind)
    found = _WRITTEN.get(behind.op)
    return None if found is None or 0 in behind.upstream[0].shape else found(behind)


def is_table_of_8(signature: Signature) -> bool:
    """Whether the result is read, code by code, from a table of 256 entries."""
    x, *rest = signature.inputs
    is_table = len(rest) == 1 and rest[0] is not None and rest[0].shape == (256,) and rest[0].quant is None
    return is_table and x is not None and x.dtype == "i8" and x.shape == signature.outputs[0].shape


def _of_table(behind: Behind) -> Gradients:
    (codes, table, *_), kind = behind.codes, behind.signature.outputs[0]
    assert codes is not None and table is not None
    with torch.enable_grad():
        x = reals_of(CODES_OF_8.to(codes.device), behind.signature.input(0)).requires_grad_()
        y = lookup(behind.op).real(torch, behind.attrs, x)[0]
    if not y.requires_grad:
        return [None]
    slopes = torch.autograd.grad(y, x, torch.ones_like(y))[0]
    clipped = ends_of(table, kind).clipped(y.detach)
    return [by_code(behind.upstream[0], codes, cleared(slopes, clipped))]


def _of_fully_connected(behind: Behind) -> Gradients:
    x, weight, bias = behind.operand(0), behind.operand(1), behind.real(2)
    rows, outputs = x.reshape(-1, x.shape[-1]), len(weight)

    def entries(places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        row, output = places // outputs, places % outputs
        return rows[row], weight[output], output

    whole = partial(functional.linear, rows, weight, bias)
    dy = _of_sums(behind, whole, entries, bias).reshape(-1, outputs)
    made = lambda: (dy @ weight).view(x.shape), lambda: dy.T @ rows, lambda: dy.sum(0)
    return _wanted(behind, made)


def _of_matmul(behind: Behind) -> Gradients:
    a, b, shape = behind.operand(0), behind.operand(1), behind.upstream[0].shape
    gain, turned = gain_of(behind.attrs), b.swapaxes(-1, -2)
    left, right = (one.expand(*shape[:-2], *one.shape[-2:]) for one in (a, turned))

    def entries(places: Tensor) -> tuple[Tensor, Tensor, None]:
        *batch, row, column = torch.unravel_index(places, shape)
        return left[(*batch, row)] * gain, right[(*batch, column)], None

    dy = _of_sums(behind, lambda: gain * (a @ b), entries)
    made = (
        lambda: (dy @ turned).sum_to_size(a.shape).mul_(gain),
        lambda: (a.swapaxes(-1, -2) @ dy).sum_to_size(b.shape).mul_(gain),
    )
    return _wanted(behind, made)


def _of_convolution(behind: Behind) -> Gradients:
    x, weight, bias = behind.operand(0), behind.operand(1), behind.real(2)
    form = geometry(behind.attrs, weight.shape[2:])
    top, left, bottom, right = form.padding
    planes, kernels = _with_rows(x), _with_rows(weight)
    padded = functional.pad(planes, (left, right, top, bottom))
    moved = form.stride, (0, 0), form.dilation
    whole = partial(functional.conv2d, padded, kernels, bias, *moved, form.groups)
    where = _with_rows(behind.upstream[0]).shape

    def entries(places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n, output, row, column = torch.unravel_index(places, where)
        split = windows_real(torch, planes, form).unflatten(1, (form.groups, -1))
        seen = split[n, output // (len(weight) // form.groups), :, row, column]
        return seen.flatten(1), weight[output].flatten(1), output

    dy = _with_rows(_of_sums(behind, whole, entries, bias))
    asked = [*behind.wanted, False][:3]
    behind_it = dy, padded, kernels, [len(weight)], *moved, False, (0, 0), form.groups, asked
    dx, dw, db = torch.ops.aten.convolution_backward(*behind_it)
    if dx is not None:
        dx = dx[:, :, top : top + planes.shape[2], left : left + planes.shape[3]].reshape(x.shape)
    return [dx, None if dw is None else dw.view(weight.shape), db][: len(behind.wanted)]


def _of_layer_norm(behind: Behind) -> Gradients | None:
    x, weight, bias = behind.operand(0), behind.real(1), behind.real(2)
    axis, epsilon = first_axis("layer_norm", behind.attrs, x.ndim), check_epsilon("layer_norm", behind.attrs)
    shape = x.shape[axis:]
    if epsilon == 0 or any(one is not None and one.shape != shape for one in (weight, bias)):
        return None  # rows without a spread are zeros; one number may serve all of a row
    y, mean, root = torch.native_layer_norm(x, shape, weight, bias, epsilon)
    dy, asked = behind.passed(lambda: y), [*behind.wanted, False, False][:3]
    made = torch.ops.aten.native_layer_norm_backward(dy, x, shape, mean, root, weight, bias, asked)
    return [one if want else None for one, want in zip(made, behind.wanted, strict=False)]


def _of_softmax(behind: Behind) -> Gradients | None:
    if behind.real(1) is not None:
        return None
    y = torch.softmax(behind.operand(0), -1)
    return [torch._softmax_backward_data(behind.passed(lambda: y), y, -1, y.dtype)]


_WRITTEN: dict[str, Callable[[Behind], Gradients | None]] = {
    "fully_connected": _of_fully_connected,
    "matmul": _of_matmul,
    "conv1d": _of_convolution,
    "conv2d": _of_convolution,
    "layer_norm": _of_layer_norm,
    "softmax": _of_softmax,
}


def _with_rows(x: Tensor) -> Tensor:
    """[N,C,W] as [N,C,1,W]; [N,C,H,W] as it is."""
    return x if x.ndim == 4 else x.unsqueeze(2)


def _wanted(behind: Behind, made: Sequence[Callable[[], Tensor]]) -> Gradients:
    return [one() if want else None for one, want in zip(made, behind.wanted, strict=False)]


def _of_sums(
    behind: Behind, whole: Callable[[], Tensor], entries: Entries, bias: Tensor | None = None
) -> Tensor:
    """dy of sums of products, and of a relu behind them: 0 where its sum is negative.

    whole: all sums. entries: of each place in the result the two rows that are multiplied, and its output.
    """
    if behind.attrs.get("activation", "none") == "relu":
        sums = whole().view(behind.upstream[0].shape)
        return torch.where(sums < 0, 0.0, behind.passed(lambda: sums.clamp(min=0)))

    def at(places: Tensor) -> Tensor:
        left, right, outputs = entries(places)
        sums = (left * right).sum(-1)
        return sums if bias is None or outputs is None else sums + bias[outputs]

    return behind.passed(whole, lambda places: torch.cat(list(map(at, torch.split(places, TOGETHER)))))
