"""Calls of compiled kernels and copies of arrays, in turn, as one function: no Python between them.

What they are given stands in the machine code itself, numbers and addresses. So arrays must keep their
places, and live as long as the function, which holds them. The code that Numba made of a kernel is called
as Numba calls it, by its own calling convention, and not compiled again.
"""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.dispatcher import Dispatcher

from nnaq.kernels.bound import Copy, Run
from nnaq.kernels.machine.vectors import I8, I32, I64, constant

NOTHING_RETURNED = -2  # the status of a kernel without a result, in Numba's calling convention; 0 of others
ROOM = 4  # entries of 64 bits for a result, which nobody reads
NUMBERS = (types.Integer, types.Float, types.Boolean, type(types.none))


class Calls:
    """Runs that `can_be_called`, as one: an error that one of them raises is raised."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = tuple(runs)
        self._engine = _engine(_module(self._runs))
        self._call = ctypes.CFUNCTYPE(ctypes.c_int32)(self._engine.get_function_address("run"))

    def __call__(self) -> None:
        failed = self._call()
        if failed:
            self._runs[failed - 1]()


def can_be_called(run: Run) -> bool:
    """Whether `Calls` knows to make it: a copy, or a kernel that ran before and gives a number at most."""
    if isinstance(run, Copy):
        kinds = run.place.dtype, run.source.dtype
        return kinds[0] == kinds[1] or all(kind.kind == "i" for kind in kinds)
    if not isinstance(run, partial) or run.keywords or not isinstance(run.func, Dispatcher):
        return False
    made = _compilation(run)
    return made is not None and isinstance(made.signature.return_type, NUMBERS)


def _compilation(run: "partial[Any]") -> Any:
    kernel: Any = run.func
    return kernel.overloads.get(tuple(map(kernel.typeof_pyval, run.args)))


def _engine(module: ir.Module) -> Any:
    machine = llvm.Target.from_default_triple().create_target_machine(opt=0)  # five times as quick as 1
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine)
    engine.finalize_object()
    return engine


def _module(runs: Sequence[Run]) -> ir.Module:
    """A function `run` that makes all of them and gives 0, or the number of one that failed, from 1 on."""
    module = ir.Module("nnaq_calls")
    builder = ir.IRBuilder(ir.Function(module, ir.FunctionType(I32, []), "run").append_basic_block("entry"))
    room = builder.alloca(I64, ROOM), builder.alloca(I8.as_pointer())
    for number, run in enumerate(runs, 1):
        if isinstance(run, Copy):
            _copy(builder, run.place, np.broadcast_to(run.source, run.place.shape))
            continue
        assert isinstance(run, partial)
        status = _call(builder, room, run)
        done = [builder.icmp_signed("==", status, ir.Constant(I32, word)) for word in (0, NOTHING_RETURNED)]
        with builder.if_then(builder.not_(builder.or_(*done)), likely=False):
            builder.ret(ir.Constant(I32, number))
    builder.ret(ir.Constant(I32, 0))
    return module


def _call(builder: ir.IRBuilder, room: tuple[ir.Value, ir.Value], run: "partial[Any]") -> ir.Value:
    """The status of a kernel's call."""
    made = _compilation(run)
    result, arguments = made.signature.return_type, made.signature.args
    kind = made.target_context.call_conv.get_function_type(result, arguments)
    words = [w for one, value in zip(arguments, run.args, strict=True) for w in _words(one, value)]
    returned = [builder.bitcast(place, one) for place, one in zip(room, kind.args[:2], strict=True)]
    given = [_given(builder, one, word) for one, word in zip(kind.args[2:], words, strict=True)]
    address = made.library.get_pointer_to_function(made.fndesc.llvm_func_name)
    return builder.call(_given(builder, kind.as_pointer(), address), [*returned, *given])


def _words(kind: Any, value: Any) -> Iterator[int | float]:
    """What Numba hands over of an argument: of an array its address and shape, without an owner."""
    if isinstance(kind, types.Array):
        yield from (0, 0, value.size, value.itemsize, value.ctypes.data, *value.shape, *value.strides)
    elif isinstance(value, tuple):
        for one, part in zip(kind, value, strict=True):
            yield from _words(one, part)
    else:
        yield value


def _given(builder: ir.IRBuilder, kind: ir.Type, word: float) -> ir.Value:
    """A number, or an address."""
    if isinstance(kind, ir.PointerType):
        return builder.inttoptr(ir.Constant(I64, word), kind)
    return ir.Constant(kind, float(word) if isinstance(kind, ir.FloatType | ir.DoubleType) else int(word))


def _copy(builder: ir.IRBuilder, place: np.ndarray, source: np.ndarray) -> None:
    """Entry by entry, or in pieces where both lie in pieces."""
    axes = _merged(place, source)
    kinds = [ir.IntType(8 * array.itemsize) for array in (place, source)]
    addresses: list[ir.Value] = [constant(array.ctypes.data) for array in (place, source)]
    if kinds[0] == kinds[1] and axes and axes[-1][1:] == (place.itemsize, place.itemsize):
        piece = axes.pop()[0] * place.itemsize
        bytes_of = [I8.as_pointer()] * 2

        def body(at: list[ir.Value]) -> None:
            move = builder.module.declare_intrinsic("llvm.memcpy", [*bytes_of, I64])
            pointers = [builder.inttoptr(address, I8.as_pointer()) for address in at]
            builder.call(move, [*pointers, constant(piece), ir.Constant(ir.IntType(1), 0)])
    else:

        def body(at: list[ir.Value]) -> None:
            to, come = (builder.inttoptr(a, k.as_pointer()) for a, k in zip(at, kinds, strict=True))
            code = builder.load(come)
            narrows = kinds[0].width < kinds[1].width
            builder.store((builder.trunc if narrows else builder.sext)(code, kinds[0]), to)

    _over(builder, axes, addresses, body)


def _merged(place: np.ndarray, source: np.ndarray) -> list[tuple[int, int, int]]:
    """Axes as (entries, bytes from entry to entry of either), outer ones first, as few as can be."""
    axes: list[tuple[int, int, int]] = []
    for size, to, come in zip(place.shape, place.strides, source.strides, strict=True):
        if size == 1:
            continue
        if axes and axes[-1][1:] == (size * to, size * come):
            axes[-1] = axes[-1][0] * size, to, come
        else:
            axes.append((size, to, come))
    return axes


def _over(
    builder: ir.IRBuilder,
    axes: list[tuple[int, int, int]],
    addresses: list[ir.Value],
    body: Callable[[list[ir.Value]], None],
) -> None:
    """Loops over axes, outer ones first, with the addresses of every entry in the innermost one."""
    if not axes:
        body(addresses)
        return
    size, *steps = axes[0]
    if size == 0:
        return
    before, inside, behind = (
        builder.block,
        *(builder.append_basic_block(word) for word in ("inside", "behind")),
    )
    builder.branch(inside)
    builder.position_at_end(inside)
    phis = [builder.phi(I64) for _ in range(3)]
    _over(builder, axes[1:], phis[1:], body)
    following = [builder.add(phi, constant(step)) for phi, step in zip(phis, (1, *steps), strict=True)]
    for phi, first, then in zip(phis, (constant(0), *addresses), following, strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(then, builder.block)
    builder.cbranch(builder.icmp_signed("<", following[0], constant(size)), inside, behind)
    builder.position_at_end(behind)
