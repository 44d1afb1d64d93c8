"""Operators that move codes: no arithmetic, no rounding, one code type for operands and results.

    reshape    y.flat[n] = x.flat[n]; `shape` holds sizes, 0 copies that dimension of the operand,
               -1 (once) takes what is left
    transpose  y[i] = x[j] with j[perm[k]] = i[k]
    slice      y[i] = x[start + step * i] along each of `axes`; starts and ends count from the end
               where negative and are limited to the axis, as in Python; steps may be negative
    pad        y[i] = x[i - begin] inside; outside, by `mode`:
               constant  the zero_point (the real 0)
               reflect   x[m] with p = 2 (n - 1), t = (i - begin) mod p, m = min(t, p - t); 0 if n = 1
               edge      x[clamp(i - begin, 0, n - 1)]
               `pads` = (begin of every axis, then end of every axis), none negative
    concat     y[.., offset_k + i, ..] = x_k[.., i, ..] along `axis`

Admitted are i8, i16 and i32, and concat joins up to 8 operands. Time may be symbolic: a symbolic
axis can be reshaped, transposed, padded and joined with whole sizes; it is sliced in full only.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from nnaq.errors import DataError, GraphError
from nnaq.ir.dims import Dim, Shape, add, evaluate, quotient, show
from nnaq.ir.op import Arrays, Attr, Op, Signature, Work, as_is, register
from nnaq.ir.types import TensorType
from nnaq.kernels.boundary import elementwise_work

CODE_DTYPES = ("i8", "i16", "i32")
MAX_CONCAT = 8
PAD_MODES = ("constant", "reflect", "edge")
# An end at or beyond this stands for "to the end", whatever the axis is (ONNX exports 2^31-1 or 2^63-1).
TO_THE_END = 2**31 - 1

Types = tuple[TensorType | None, ...]
Attrs = Mapping[str, Attr]


def integers(attrs: Attrs, key: str, length: int, who: str) -> tuple[int, ...]:
    """The attribute `key`: `length` whole numbers. Raises GraphError otherwise."""
    value = attrs.get(key)
    if isinstance(value, tuple) and len(value) == length and all(isinstance(v, int) for v in value):
        return tuple(int(v) for v in value)
    raise GraphError(f"{who} needs {length} whole numbers as {key!r}, found {value!r}")


def axis_of(axis: Attr, rank: int, who: str) -> int:
    """`axis` counted from the front. Raises GraphError where a tensor of `rank` has no such axis."""
    if not isinstance(axis, int) or not -rank <= axis < rank:
        raise GraphError(f"{who} names axis {axis!r} of a tensor of rank {rank}")
    return axis % rank


def operand(inputs: Types, position: int = 0) -> TensorType:
    """The type of an operand that must be there."""
    found = inputs[position] if position < len(inputs) else None
    if found is None:
        raise GraphError(f"operand {position} is missing")
    return found


# --- reshape


def reshaped(dims: Sequence[Dim], shape: Attr) -> Shape:
    """The shape that the attribute `shape` makes of an operand of `dims`."""
    sizes = integers({"shape": shape}, "shape", len(shape) if isinstance(shape, tuple) else 0, "reshape")
    if sizes.count(-1) > 1 or min(sizes, default=0) < -1:
        raise GraphError(f"reshape takes sizes, 0 to copy and at most one -1, found {list(sizes)}")
    if any(size == 0 and axis >= len(dims) for axis, size in enumerate(sizes)):
        raise GraphError(f"reshape to {list(sizes)} copies a dimension that {show(dims)} does not have")
    known = {axis: size or dims[axis] for axis, size in enumerate(sizes) if size != -1}
    left = quotient(dims, tuple(known.values()))
    if left is None or (-1 not in sizes and left != 1):
        raise GraphError(f"{show(dims)} cannot be reshaped to {list(sizes)}: the sizes do not divide")
    return tuple(known.get(axis, left) for axis in range(len(sizes)))


@cache  # a stream asks the same at every step
def whole_reshape(sizes: tuple[int, ...], shape: Attr) -> tuple[int, ...]:
    """`reshaped` for whole sizes. An empty axis stands as a symbol, so that -1 is known there too."""
    symbolic = [size or "empty" for size in sizes]
    return tuple(evaluate(dim, {"empty": 0}) for dim in reshaped(symbolic, shape))


def infer_reshape(inputs: Types, attrs: Attrs) -> tuple[Shape, ...]:
    dims = operand(inputs).shape
    whole = tuple(dim for dim in dims if isinstance(dim, int))
    if len(whole) == len(dims):
        return (whole_reshape(whole, attrs["shape"]),)
    return (reshaped(dims, attrs["shape"]),)


def real_reshape(xp: Any, attrs: Attrs, x: Any) -> tuple[Any, ...]:
    return (xp.reshape(x, whole_reshape(x.shape, attrs["shape"])),)


def reference_reshape(signature: Signature, x: np.ndarray) -> Arrays:
    codes = [int(code) for code in x.flat]
    return (np.array(codes, x.dtype).reshape(whole_reshape(x.shape, signature.attrs["shape"])),)


# --- transpose


def permutation(attrs: Attrs, rank: int) -> tuple[int, ...]:
    perm = integers(attrs, "perm", rank, "transpose")
    if sorted(perm) != list(range(rank)):
        raise GraphError(f"transpose needs each of {rank} axes once, found {list(perm)}")
    return perm


def infer_transpose(inputs: Types, attrs: Attrs) -> tuple[Shape, ...]:
    kind = operand(inputs)
    return (tuple(kind.shape[axis] for axis in permutation(attrs, kind.rank)),)


def real_transpose(xp: Any, attrs: Attrs, x: Any) -> tuple[Any, ...]:
    perm = permutation(attrs, len(x.shape))
    return (xp.moveaxis(x, perm, tuple(range(len(perm)))),)


def reference_transpose(signature: Signature, x: np.ndarray) -> Arrays:
    perm = permutation(signature.attrs, x.ndim)
    shape = tuple(x.shape[axis] for axis in perm)
    return (gather(x, shape, lambda i: tuple(i[perm.index(axis)] for axis in range(x.ndim))),)


def gather(
    x: np.ndarray, shape: Sequence[int], source: Callable[[tuple[int, ...]], tuple[int, ...]]
) -> np.ndarray:
    """Result code by result code: y[i] = x[source(i)]."""
    codes = [int(x[source(index)]) for index in np.ndindex(*shape)]
    return np.array(codes, x.dtype).reshape(shape)


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
    """Entries a slice leaves of an axis; a symbolic axis only in full."""
    if isinstance(dim, int):
        return len(range(*cut.indices(dim)))
    if (cut.start, cut.step) == (0, 1) and cut.stop >= TO_THE_END:
        return dim
    raise GraphError(
        f"slice {cut.start}:{cut.stop}:{cut.step} of the symbolic axis {dim!r} has no size that is known "
        f"before a run; slice it in full (0:{TO_THE_END}:1) or give the axis a whole size"
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


def reference_slice(signature: Signature, x: np.ndarray) -> Arrays:
    spans = [range(size) for size in x.shape]
    for axis, cut in cuts(signature.attrs, x.ndim).items():
        spans[axis] = range(*cut.indices(x.shape[axis]))
    shape = [len(span) for span in spans]
    return (gather(x, shape, lambda i: tuple(span[n] for span, n in zip(spans, i, strict=True))),)


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


@cache  # a stream asks the same at every step
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


def pad_constant(xp: Any, x: Any, axis: int, begin: int, end: int, fill: float) -> Any:
    """x with `begin` and `end` entries of `fill` before and after it along `axis`."""
    shape = [(*x.shape[:axis], n, *x.shape[axis + 1 :]) for n in (begin, end)]
    sides = [xp.full(s, fill, dtype=x.dtype, device=x.device) for s in shape]
    return xp.concatenate((sides[0], x, sides[1]), axis)


def real_pad(xp: Any, attrs: Attrs, x: Any) -> tuple[Any, ...]:
    return (padded(xp, attrs, x, 0.0),)


def fast_pad(signature: Signature, x: np.ndarray) -> Arrays:
    return (np.asarray(padded(np, signature.attrs, x, signature.input(0).zero_point), order="C"),)


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
    return ((*shapes[0][:axis], joined([shape[axis] for shape in shapes]), *shapes[0][axis + 1 :]),)


def joined(dims: Sequence[Dim]) -> Dim:
    """The sum of sizes of which at most one is symbolic."""
    named = [dim for dim in dims if not isinstance(dim, int)]
    if len(named) > 1:
        raise GraphError(f"concat can join one symbolic size with whole ones, found {', '.join(named)}")
    return add(named[0] if named else 0, sum(dim for dim in dims if isinstance(dim, int)))


def real_concat(xp: Any, attrs: Attrs, *xs: Any) -> tuple[Any, ...]:
    return (xp.concatenate(xs, axis_of(attrs["axis"], len(xs[0].shape), "concat")),)


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


def by_real(real: Callable[..., tuple[Any, ...]]) -> Callable[..., Arrays]:
    """The fast kernel of an operator that treats codes as it treats reals."""

    def fast(signature: Signature, *arrays: np.ndarray) -> Arrays:
        (moved,) = real(np, signature.attrs, *arrays)
        return (np.asarray(moved, order="C"),)

    return fast


def no_work(signature: Signature) -> Work:
    """Another shape for the same memory costs nothing."""
    return Work()


UNARY = tuple(f"{dtype} -> {dtype}" for dtype in CODE_DTYPES)
VARIADIC = tuple(
    f"{' '.join([dtype] * count)} -> {dtype}" for dtype in CODE_DTYPES for count in range(1, MAX_CONCAT + 1)
)

register(
    Op(
        "reshape",
        ("x",),
        UNARY,
        infer_reshape,
        real_reshape,
        as_is,
        reference_reshape,
        by_real(real_reshape),
        no_work,
        "y.flat[n] = x.flat[n]",
        moves=True,
    )
)
register(
    Op(
        "transpose",
        ("x",),
        UNARY,
        infer_transpose,
        real_transpose,
        as_is,
        reference_transpose,
        by_real(real_transpose),
        elementwise_work,
        "y[i] = x[j] with j[perm[k]] = i[k]",
        moves=True,
    )
)
register(
    Op(
        "slice",
        ("x",),
        UNARY,
        infer_slice,
        real_slice,
        as_is,
        reference_slice,
        by_real(real_slice),
        elementwise_work,
        "y[i] = x[start + step * i] along each of axes",
        moves=True,
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
        fast_pad,
        elementwise_work,
        "y[i] = x[i - begin]; outside: zero_point (constant), mirrored (reflect) or the nearest (edge)",
        moves=True,
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
        by_real(real_concat),
        elementwise_work,
        "y = the operands, one after another along axis",
        moves=True,
    )
)
