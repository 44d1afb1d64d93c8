"""Operators that cut an axis, widen it, or join operands along it; codes stay as they are.

    slice      y[i] = x[start + step * i] along each of `axes`; starts and ends count from the end
               where negative and are limited to the axis, as in Python; steps may be negative
    pad        y[i] = x[i - begin] inside; outside, by `mode`:
               constant  the zero_point (the real 0)
               reflect   x[m] with p = 2 (n - 1), t = (i - begin) mod p, m = min(t, p - t); 0 if n = 1
               edge      x[clamp(i - begin, 0, n - 1)]
               `pads` = (begin of every axis, then end of every axis), none negative
    concat     y[.., offset_k + i, ..] = x_k[.., i, ..] along `axis`

Admitted are i8, i16 and i32, and concat joins up to 8 operands.

An open (symbolic) axis of T entries is sliced forward, and the size is a promise that the axis is
long enough: the last K (-K:) of T are K, all but the first K (K:) are T - K, the first K (:K) are
K, every other one is (T + 1) // 2. Integer kernels raise OpError in a run that breaks the promise;
over the reals, where no types are known, limits stay those of Python. A state joined in front
keeps it always: concat of K - 1 frames and T has K - 1 + T, whose last K - 1 are the next state.
"""

from functools import lru_cache, partial
from typing import Any

import numpy as np

from nnaq.errors import DataError, GraphError, OpError
from nnaq.ir.dims import Dim, Shape, add, evaluate, floor_divide, show, subtract
from nnaq.ir.op import Arrays, Attr, Bindable, Op, Signature, as_is, at_once, register
from nnaq.jit import jit
from nnaq.kernels.bound import Copy, together
from nnaq.kernels.boundary import elementwise_work
from nnaq.kernels.movement import (
    CODE_DTYPES,
    MAX_CONCAT,
    TO_THE_END,
    UNARY,
    Attrs,
    Bound,
    Types,
    View,
    axis_of,
    integers,
    load_view,
    operand,
    pad_constant,
    picked,
)

PAD_MODES = ("constant", "reflect", "edge")
VARIADIC = tuple(
    f"{' '.join([dtype] * count)} -> {dtype}" for dtype in CODE_DTYPES for count in range(1, MAX_CONCAT + 1)
)


# --- slice


def cuts(attrs: Attrs, rank: int) -> dict[int, slice]:
    """The slice of each axis that the attributes name."""
    axes = attrs["axes"]
    assert isinstance(axes, tuple)
    starts, ends, steps = (integers(attrs, key, len(axes), "slice") for key in ("starts", "ends", "steps"))
    found = [axis_of(axis, rank, "slice") for axis in axes]
    if len(set(found)) != len(found) or 0 in steps:
        raise GraphError(f"slice needs distinct axes and no step of 0, found axes {axes}, steps {steps}")
    return {a: slice(*cut) for a, *cut in zip(found, starts, ends, steps, strict=True)}


def cut_length(dim: Dim, cut: slice) -> Dim:
    """Entries a slice leaves of an axis; of an open axis those it promises."""
    if isinstance(dim, int):
        return len(range(*cut.indices(dim)))
    if cut.step < 0 or -TO_THE_END < cut.start < 0 <= cut.stop < TO_THE_END:
        raise GraphError(
            f"slice {cut.start}:{cut.stop}:{cut.step} of the symbolic axis {dim!r} has no size that is known "
            "before a run; step forward and from the front to the end (reverse turns an axis round), or "
            "give the axis a whole size"
        )
    length = subtract(place(cut.stop, dim), place(cut.start, dim))
    if isinstance(length, int):
        entries: int = -(-length // cut.step)
        return max(entries, 0)
    return floor_divide(add(length, cut.step - 1), cut.step)


def place(index: int, dim: Dim) -> Dim:
    """Where a start or an end of a slice stands on an open axis."""
    if abs(index) >= TO_THE_END:
        return dim if index > 0 else 0
    return index if index >= 0 else add(dim, index)


@lru_cache(maxsize=1024)  # a stream asks the same at every step
def keeps_promise(size: int, start: int, stop: int, step: int) -> bool:
    """Whether an open axis that has `size` entries in a run gives a slice what was promised."""
    cut = slice(start, stop, step)
    return evaluate(cut_length("size", cut), {"size": size}) == cut_length(size, cut)


def check_promises(signature: Signature, x: np.ndarray) -> None:
    """Raise OpError where an open axis is too short for a slice of it."""
    kind = signature.input(0)
    for axis, cut in cuts(signature.attrs, kind.rank).items():
        dim, size = kind.shape[axis], x.shape[axis]
        if isinstance(dim, str) and not keeps_promise(size, cut.start, cut.stop, cut.step):
            raise OpError(
                f"slice {cut.start}:{cut.stop}:{cut.step} needs more of the open axis {dim!r} than "
                f"the {size} entries it has in this run; feed a longer stretch"
            )


def infer_slice(inputs: Types, attrs: Attrs) -> tuple[Shape, ...]:
    kind = operand(inputs)
    found = cuts(attrs, kind.rank)
    return (tuple(cut_length(d, found[a]) if a in found else d for a, d in enumerate(kind.shape)),)


def real_slice(xp: Any, attrs: Attrs, x: Any) -> tuple[Any, ...]:
    for axis, cut in cuts(attrs, len(x.shape)).items():
        span = range(*cut.indices(x.shape[axis]))
        forward = span if span.step > 0 else span[::-1]  # torch slices forward only
        x = x[(slice(None),) * axis + (slice(forward.start, forward.stop, forward.step),)]
        x = x if span.step > 0 else xp.flip(x, (axis,))
    return (x,)


def view_slice(signature: Signature) -> View:
    found = cuts(signature.attrs, signature.input(0).rank)
    index = tuple(found.get(axis, slice(None)) for axis in range(signature.input(0).rank))

    def view(x: np.ndarray) -> np.ndarray:
        check_promises(signature, x)
        return x[index]

    return view


def reference_slice(signature: Signature, x: np.ndarray) -> Arrays:
    check_promises(signature, x)
    spans = [range(size) for size in x.shape]
    for axis, cut in cuts(signature.attrs, x.ndim).items():
        spans[axis] = range(*cut.indices(x.shape[axis]))
    shape = [len(span) for span in spans]
    return (picked(x, shape, lambda i: tuple(span[n] for span, n in zip(spans, i, strict=True))),)


# --- pad


def widths(attrs: Attrs, rank: int) -> tuple[tuple[int, int], ...]:
    """(begin, end) of each axis."""
    pads = integers(attrs, "pads", 2 * rank, "pad")
    if min(pads, default=0) < 0:
        raise GraphError(f"pad takes no negative widths, found {list(pads)}; cut with slice")
    if attrs["mode"] not in PAD_MODES:
        raise GraphError(f"no pad mode {attrs['mode']!r}; there are {', '.join(PAD_MODES)}")
    return tuple(zip(pads[:rank], pads[rank:], strict=True))


def infer_pad(inputs: Types, attrs: Attrs) -> tuple[Shape, ...]:
    kind = operand(inputs)
    found = widths(attrs, kind.rank)
    return (tuple(add(d, begin + end) for d, (begin, end) in zip(kind.shape, found, strict=True)),)


@lru_cache(maxsize=8)  # a stream asks the same at every step
def pad_sources(size: int, begin: int, end: int, mode: Attr) -> tuple[int, ...]:
    """The operand's position behind each position of a padded axis, for reflect and edge."""
    if size == 0:
        raise DataError(f"pad mode {mode!r} repeats entries of an axis that has none; give it at least one")
    if mode == "edge":
        return tuple(min(max(i - begin, 0), size - 1) for i in range(begin + size + end))
    period = max(2 * (size - 1), 1)
    turns = ((i - begin) % period for i in range(begin + size + end))
    return tuple(min(t, period - t) if size > 1 else 0 for t in turns)


def padded(xp: Any, attrs: Attrs, x: Any, fill: float) -> Any:
    """x with every axis padded; `fill` is what the constant mode puts outside."""
    for axis, (begin, end) in enumerate(widths(attrs, len(x.shape))):
        if (begin, end) == (0, 0):
            continue
        if attrs["mode"] == "constant":
            x = pad_constant(xp, x, axis, begin, end, fill)
        else:
            sources = list(pad_sources(x.shape[axis], begin, end, attrs["mode"]))
            x = x[(slice(None),) * axis + (sources,)]
    return x


def real_pad(xp: Any, attrs: Attrs, x: Any) -> tuple[Any, ...]:
    return (padded(xp, attrs, x, 0.0),)


def load_pad(signature: Signature, constants: tuple[Any, ...]) -> Bindable:
    """Bound, a constant is outside once and for all; reflect and edge know the source of every position."""
    attrs, fill = signature.attrs, signature.input(0).zero_point

    def at_once(x: np.ndarray) -> Arrays:
        return (np.asarray(padded(np, attrs, x, fill), order="C"),)

    def bind(x: np.ndarray) -> Bound:
        sides = widths(attrs, x.ndim)
        place = np.full([b + size + e for (b, e), size in zip(sides, x.shape, strict=True)], fill, x.dtype)
        if attrs["mode"] == "constant":
            inside = tuple(slice(b, b + size) for (b, _), size in zip(sides, x.shape, strict=True))
            return (place,), Copy(place[inside], x)
        sources = padded(np, attrs, np.arange(x.size).reshape(x.shape), 0).reshape(-1)
        return (place,), partial(_pick, x.reshape(-1), sources, place.reshape(-1))

    return Bindable(bind, at_once)


@jit
def _pick(x, sources, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] = x[sources[i]]


def reference_pad(signature: Signature, x: np.ndarray) -> Arrays:
    mode, zero_point = signature.attrs["mode"], signature.input(0).zero_point
    found = widths(signature.attrs, x.ndim)
    shape = [size + begin + end for size, (begin, end) in zip(x.shape, found, strict=True)]
    codes = []
    for index in np.ndindex(*shape):
        at = [i - begin for i, (begin, _) in zip(index, found, strict=True)]
        inside = all(0 <= i < size for i, size in zip(at, x.shape, strict=True))
        if mode == "constant" and not inside:
            codes.append(zero_point)
            continue
        codes.append(int(x[tuple(fold(i, n, mode) for i, n in zip(at, x.shape, strict=True))]))
    return (np.array(codes, x.dtype).reshape(shape),)


def fold(i: int, n: int, mode: Attr) -> int:
    """Position `i` brought back into an axis of `n` entries, step by step as a mirror or a wall does."""
    if mode == "edge":
        return max(0, min(i, n - 1))
    while n > 1 and not 0 <= i < n:
        i = -i if i < 0 else 2 * (n - 1) - i
    return i if n > 1 else 0


# --- concat


def infer_concat(inputs: Types, attrs: Attrs) -> tuple[Shape, ...]:
    shapes = [operand(inputs, i).shape for i in range(len(inputs))]
    axis = axis_of(attrs["axis"], len(shapes[0]), "concat")
    rests = {shape[:axis] + shape[axis + 1 :] for shape in shapes}
    if len(rests) != 1 or len({len(shape) for shape in shapes}) != 1:
        found = ", ".join(map(show, shapes))
        raise GraphError(f"concat along axis {axis} needs operands that agree elsewhere, found {found}")
    return ((*shapes[0][:axis], add(*(shape[axis] for shape in shapes)), *shapes[0][axis + 1 :]),)


def real_concat(xp: Any, attrs: Attrs, *xs: Any) -> tuple[Any, ...]:
    return (xp.concatenate(xs, axis_of(attrs["axis"], len(xs[0].shape), "concat")),)


def load_concat(signature: Signature, constants: tuple[Any, ...]) -> Bindable:
    """Bound, every operand has its part of the result."""
    axis = axis_of(signature.attrs["axis"], signature.input(0).rank, "concat")

    def at_once(*xs: np.ndarray) -> Arrays:
        return (np.ascontiguousarray(np.concatenate(xs, axis)),)

    def bind(*xs: np.ndarray) -> Bound:
        place = np.ascontiguousarray(np.concatenate(xs, axis))  # operands may bring another order of memory
        ends = np.cumsum([x.shape[axis] for x in xs])
        parts = np.split(place, ends[:-1], axis)
        return (place,), together([Copy(part, x) for part, x in zip(parts, xs, strict=True)])

    return Bindable(bind, at_once)


def reference_concat(signature: Signature, *xs: np.ndarray) -> Arrays:
    axis = axis_of(signature.attrs["axis"], xs[0].ndim, "concat")
    shape = list(xs[0].shape)
    shape[axis] = sum(x.shape[axis] for x in xs)
    owners = [(x, i) for x in xs for i in range(x.shape[axis])]
    codes = []
    for index in np.ndindex(*shape):
        x, i = owners[index[axis]]
        codes.append(int(x[(*index[:axis], i, *index[axis + 1 :])]))
    return (np.array(codes, xs[0].dtype).reshape(shape),)


# --- registration

load_slice = load_view(view_slice)

register(
    Op(
        "slice",
        ("x",),
        UNARY,
        infer_slice,
        real_slice,
        as_is,
        reference_slice,
        at_once(load_slice),
        elementwise_work,
        "y[i] = x[start + step * i] along each of axes",
        moves=True,
        load=load_slice,
    )
)
register(
    Op(
        "pad",
        ("x",),
        UNARY,
        infer_pad,
        real_pad,
        as_is,
        reference_pad,
        at_once(load_pad),
        elementwise_work,
        "y[i] = x[i - begin]; outside: zero_point (constant), mirrored (reflect) or the nearest (edge)",
        moves=True,
        load=load_pad,
    )
)
register(
    Op(
        "concat",
        ("*xs",),
        VARIADIC,
        infer_concat,
        real_concat,
        as_is,
        reference_concat,
        at_once(load_concat),
        elementwise_work,
        "y = the operands, one after another along axis",
        moves=True,
        load=load_concat,
    )
)
