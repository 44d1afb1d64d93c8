"""Requantisation of a vector of 32-bit values: words of IR for every rounding of kernels/fixedpoint.py.

    WHOLE   t = (x*factor + offset) >> right                                        0 <= right <= 62
    TWICE   t = (x*factor + offset + (x < 0)*below) >> right
            y = (t >> after) + ((t & mask) > (mask >> 1) + (t < 0)*away)            mask = 2^after - 1
    REAL    y = rint_even(f32(x) * scale), limited to 30 bits

t must fit in 32 bits, which callers prove. Products have 64 bits and are made of the even and of the odd
lanes. The machine shifts them without sign, which gives the same low 32 bits for the first 32 places; the
rest of the shift has 32-bit lanes and a sign. What a stage needs stands in memory lane by lane, as rows of
`vectors`, so that loops read it in place.
"""

from collections.abc import Callable
from dataclasses import dataclass

from llvmlite import ir

from nnaq.kernels.machine.tiers import tier
from nnaq.kernels.machine.vectors import I32, I64, constant

LANES = tier().lanes
HALF = LANES // 2
WORDS = ir.VectorType(I32, LANES)
WIDE = ir.VectorType(I64, HALF)
FLOATS = ir.VectorType(ir.FloatType(), LANES)
WHOLE, TWICE, REAL = range(3)
STAGE_ROWS = 10
LIMIT_ROWS = 3
LARGEST_REAL = 2.0**30


@dataclass(frozen=True)
class Stage:
    """The operands of one requantisation: WIDE for even and odd lanes, WORDS behind them.

    left_odd is 32 - right for the odd lanes, whose results stay in the upper half of a lane.
    """

    factor: tuple[ir.Value, ir.Value]
    offset: tuple[ir.Value, ir.Value]
    below: ir.Value | None
    right_even: ir.Value
    left_odd: ir.Value
    rest: ir.Value
    after: ir.Value | None = None
    mask: ir.Value | None = None
    half: ir.Value | None = None
    away: ir.Value | None = None


def splat(kind: ir.VectorType, value: int | float) -> ir.Constant:
    """A constant in every lane."""
    return ir.Constant(kind, [ir.Constant(kind.element, value)] * kind.count)


def row(builder: ir.IRBuilder, rows: ir.Value, index: int, kind: ir.VectorType = WORDS) -> ir.Value:
    """Row `index` of constants that stand in memory lane by lane."""
    place = builder.gep(rows, [constant(index * HALF)])
    found = builder.load(builder.bitcast(place, kind.as_pointer()))
    found.align = 8
    return found


def stage(builder: ir.IRBuilder, rows: ir.Value, first: int) -> Stage:
    """The stage whose rows begin at `first`; see `requantize_lanes.stage_rows`."""
    factor, offset, below, right, left = (row(builder, rows, first + i, WIDE) for i in range(5))
    words = (row(builder, rows, first + i) for i in range(5, STAGE_ROWS))
    return Stage((factor, factor), (offset, offset), below, right, left, *words)


def requantized(builder: ir.IRBuilder, kind: int, x: ir.Value, s: Stage) -> ir.Value:
    """R(x) of WORDS under one of the three kinds."""
    if kind == REAL:
        return real(builder, x, builder.bitcast(s.factor[0], FLOATS))
    t = whole(builder, x, s, signed=kind == TWICE)
    return rounded(builder, t, s) if kind == TWICE else t


def low_word(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """The low half of WIDE lanes with its sign: written so that a product of two is one instruction."""
    up = splat(WIDE, 32)
    return builder.ashr(builder.shl(x, up), up)


def high_word(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """The high half of WIDE lanes with its sign."""
    return builder.ashr(x, splat(WIDE, 32))


def blend(builder: ir.IRBuilder, even: ir.Value, odd: ir.Value) -> ir.Value:
    """WORDS of the even lanes of one and the odd lanes of the other."""
    places = [ir.Constant(I32, i + LANES * (i & 1)) for i in range(LANES)]
    return builder.shuffle_vector(even, odd, ir.Constant(WORDS, places))


def whole(builder: ir.IRBuilder, x: ir.Value, s: Stage, signed: bool = False) -> ir.Value:
    """t of the module's formulas; signed: with what is added below 0."""
    wide = builder.bitcast(x, WIDE)
    parts = []
    for i, part in enumerate((low_word(builder, wide), high_word(builder, wide))):
        total = builder.add(builder.mul(part, low_word(builder, s.factor[i])), s.offset[i])
        if signed:
            negative = builder.icmp_signed("<", part, splat(WIDE, 0))
            total = builder.add(total, builder.select(negative, s.below, splat(WIDE, 0)))
        parts.append(total)
    even, odd = builder.lshr(parts[0], s.right_even), builder.shl(parts[1], s.left_odd)
    t = blend(builder, builder.bitcast(even, WORDS), builder.bitcast(odd, WORDS))
    return builder.ashr(t, s.rest)


def rounded(builder: ir.IRBuilder, t: ir.Value, s: Stage) -> ir.Value:
    """y of TWICE."""
    negative = builder.and_(builder.lshr(t, splat(WORDS, 31)), s.away)
    up = builder.icmp_signed(">", builder.and_(t, s.mask), builder.add(s.half, negative))
    return builder.sub(builder.ashr(t, s.after), builder.sext(up, WORDS))


def real(builder: ir.IRBuilder, x: ir.Value, scale: ir.Value) -> ir.Value:
    """y of REAL."""
    y = rint(builder, builder.fmul(builder.sitofp(x, FLOATS), scale))
    return builder.fptosi(limited(builder, y, -LARGEST_REAL, LARGEST_REAL), WORDS)


def rint(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """The nearest whole number of floats, ties to even."""
    bits = 32 if x.type.element == ir.FloatType() else 64
    name = f"llvm.rint.v{x.type.count}f{bits}"
    known = builder.module.globals.get(name)
    return builder.call(known or ir.Function(builder.module, ir.FunctionType(x.type, [x.type]), name), [x])


def limited(builder: ir.IRBuilder, x: ir.Value, low: float, high: float) -> ir.Value:
    """min(max(x, low), high) of floats that are numbers."""
    for word, limit in ((">", low), ("<", high)):
        bound = splat(x.type, limit)
        x = builder.select(builder.fcmp_ordered(word, x, bound), x, bound)
    return x


def within(builder: ir.IRBuilder, x: ir.Value, low: ir.Value, high: ir.Value) -> ir.Value:
    """min(max(x, low), high) of WORDS."""
    x = builder.select(builder.icmp_signed(">", x, low), x, low)
    return builder.select(builder.icmp_signed("<", x, high), x, high)


def saturated(builder: ir.IRBuilder, y: ir.Value, rows: ir.Value, first: int) -> ir.Value:
    """y limited to [low - z, high - z], then moved by z; the three rows begin at `first`."""
    low, high, zero = (row(builder, rows, first + i) for i in range(LIMIT_ROWS))
    return builder.add(within(builder, y, low, high), zero)


Values = Callable[[ir.IRBuilder, int, ir.Value, list[ir.Value]], ir.Value]
