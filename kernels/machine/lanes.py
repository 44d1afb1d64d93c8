"""Whole numbers of 32 bits side by side: the words that loops over rows of 16-bit codes are written in."""

from llvmlite import ir

from nnaq.kernels.machine.vectors import I16, I32, I64, broadcast, load, pair_products, store

F32 = ir.FloatType()


class Lanes:
    """Words for `count` numbers of 32 bits side by side."""

    def __init__(self, builder: ir.IRBuilder, count: int) -> None:
        self.builder, self.count = builder, count
        self.kind = ir.VectorType(I32, count)
        self.wide, self.codes, self.reals = (ir.VectorType(kind, count) for kind in (I64, I16, F32))

    def all(self, value: int) -> ir.Constant:
        """A constant in every lane."""
        return ir.Constant(self.kind, [value] * self.count)

    def number(self, numbers: ir.Value, place: int) -> ir.Value:
        """An entry of an i64 array in every lane, in 32 bits."""
        return self.builder.trunc(self.wide_number(numbers, place), self.kind)

    def wide_number(self, numbers: ir.Value, place: int) -> ir.Value:
        """An entry of an i64 array in every lane, in 64 bits."""
        return broadcast(self.builder, load(self.builder, numbers, ir.Constant(I64, place), I64), self.count)

    def read(self, row: ir.Value, at: ir.Value) -> ir.Value:
        """16-bit codes of a row."""
        return self.builder.sext(load(self.builder, row, at, self.codes), self.kind)

    def write(self, values: ir.Value, row: ir.Value, at: ir.Value) -> None:
        """Numbers within 16 bits as codes of a row."""
        store(self.builder, self.builder.trunc(values, self.codes), row, at)

    def clamp(self, value: ir.Value, low: ir.Value, high: ir.Value) -> ir.Value:
        """The nearest number from low to high."""
        above = self.builder.select(self.builder.icmp_signed(">", value, low), value, low)
        return self.builder.select(self.builder.icmp_signed("<", above, high), above, high)

    def clamp_16(self, value: ir.Value) -> ir.Value:
        return self.clamp(value, self.all(-(2**15)), self.all(2**15 - 1))

    def neighbours(self, table: ir.Value, places: ir.Value) -> ir.Value:
        """Entries table[p] and table[p + 1], i16, as the low and high half of every lane; p >= 0.

        One load per lane, for every machine: the gather of AVX2 is not quicker where it was measured.
        """
        made = ir.Constant(self.kind, ir.Undefined)
        for lane in (ir.Constant(I32, n) for n in range(self.count)):
            place = self.builder.zext(self.builder.extract_element(places, lane), I64)
            made = self.builder.insert_element(made, load(self.builder, table, place, I32), lane)
        return made

    def pair_sums(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """low * low + high * high of the i16 halves of every lane."""
        halves = ir.VectorType(I16, 2 * self.count)
        return pair_products(self.builder, self.builder.bitcast(a, halves), self.builder.bitcast(b, halves))

    def shifted(self, x: ir.Value, numbers: ir.Value, first: int, in_floats: bool) -> ir.Value:
        """Two shifts, with what is added before each: entries of `numbers` from `first` on.

            h = (x + add) >> right;  y = (h + half + ((h >> 31) & sign)) >> last

        in_floats: rint(f32(x) * scale) instead, the bits of `scale` at `first`.
        """
        if in_floats:
            return self.builder.fptosi(self._scaled(x, numbers, first), self.kind)
        add, right = (self.number(numbers, first + n) for n in range(2))
        h = self.builder.ashr(self.builder.add(x, add), right)
        return self._second_shift(h, numbers, first + 2)

    def rescaled(self, x: ir.Value, numbers: ir.Value, first: int, in_floats: bool) -> ir.Value:
        """A product in 64 bits, of which 32 go on: entries of `numbers` from `first` on.

            h = (((x * multiplier) << left) + add + (below if x < 0 else 0)) >> 32
            y = clamp((h + half + ((h >> 31) & sign)) >> last, low, high)

        in_floats: clamp(rint(f32(x) * scale), low, high) instead, the bits of `scale` as multiplier.
        """
        low, high = (self.number(numbers, first + n) for n in (7, 8))
        if in_floats:
            return self._clamped_real(self._scaled(x, numbers, first), low, high)
        multiplier = self.builder.sext(self.number(numbers, first), self.wide)  # 32 bits: one multiplication
        left, add, below = (self.wide_number(numbers, first + n) for n in range(1, 4))
        product = self.builder.shl(self.builder.mul(self.builder.sext(x, self.wide), multiplier), left)
        negative = self.builder.sext(self.builder.ashr(x, self.all(31)), self.wide)
        total = self.builder.add(self.builder.add(product, add), self.builder.and_(negative, below))
        upper = self.builder.lshr(total, ir.Constant(self.wide, [32] * self.count))
        y = self._second_shift(self.builder.trunc(upper, self.kind), numbers, first + 4)
        return self.clamp(y, low, high)

    def _second_shift(self, h: ir.Value, numbers: ir.Value, first: int) -> ir.Value:
        half, sign, last = (self.number(numbers, first + n) for n in range(3))
        negative = self.builder.and_(self.builder.ashr(h, self.all(31)), sign)
        return self.builder.ashr(self.builder.add(self.builder.add(h, half), negative), last)

    def _scaled(self, x: ir.Value, numbers: ir.Value, place: int) -> ir.Value:
        scale = self.builder.bitcast(self.number(numbers, place), self.reals)
        product = self.builder.fmul(self.builder.sitofp(x, self.reals), scale)
        kind = ir.FunctionType(self.reals, [self.reals])
        rint = self.builder.module.declare_intrinsic(f"llvm.rint.v{self.count}f32", (), kind)
        return self.builder.call(rint, [product])

    def _clamped_real(self, y: ir.Value, low: ir.Value, high: ir.Value) -> ir.Value:
        """Whole reals as numbers from low to high: what has no 32 bits saturates before it is converted."""
        lowest, highest = (self.builder.sitofp(limit, self.reals) for limit in (low, high))
        above = self.builder.select(self.builder.fcmp_ordered(">", y, lowest), y, lowest)
        within = self.builder.select(self.builder.fcmp_ordered("<", above, highest), above, highest)
        return self.builder.fptosi(within, self.kind)
