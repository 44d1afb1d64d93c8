"""Softmax int8 by gemmlowp's algorithm, and attention, in TOSA primitives."""

import numpy as np
import replicas
from tosa_chain import Chain
from vectors import random_scale

EXP_OF_MINUS_EIGHTH, THIRD = 1895147668, 715827883  # Q0.31
FACTORS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)  # exp(-2^(k-26)), k = 24 …
NEWTON_48_17, NEWTON_32_17 = 1515870810, -1010580540  # Q2.29
ONE, REACH = 2**31 - 1, 31 << 26
PROBABILITY_ZERO = -128


class Softmax:
    """The rows of one softmax; its numbers are constants of the rank of x."""

    def __init__(self, chain, rank):
        self.chain, self.rank = chain, rank

    def number(self, value):
        return self.chain.constant(value, 32, self.rank)

    def high(self, a, b):
        """(a*b + 2^30) >> 31."""
        return self.chain.mul(a, b, 31)

    def exponential(self, a):
        """exp of a <= 0 in Q5.26, in Q0.31."""
        chain, number = self.chain, self.number
        u = chain.sub(chain.bit_and(a, number(2**24 - 1)), number(2**24))
        v = chain.add(chain.shift_left(u, number(5)), number(2**28))
        v2 = self.high(v, v)
        cubic = chain.add(chain.shift_right(self.high(v2, v2), number(2)), self.high(v2, v))
        t = chain.add(self.high(cubic, number(THIRD)), v2)
        base = number(EXP_OF_MINUS_EIGHTH)
        e = chain.add(base, self.high(base, chain.add(v, chain.shift_right(t, number(1)))))
        w = chain.sub(u, a)
        for k, factor in enumerate(FACTORS, 24):
            unset = chain.equal(chain.bit_and(w, number(1 << k)), number(0))
            e = chain.select(unset, e, self.high(e, number(factor)))
        return chain.select(chain.equal(a, number(0)), number(ONE), e)

    def reciprocal(self, total):
        """1 / total in Q0.31 of a normalised total, and its leading zeros."""
        chain, number = self.chain, self.number
        zeros = chain.leading_zeros(total)
        h = chain.shift_left(total, chain.sub(zeros, number(1)))
        r = chain.add(number(NEWTON_48_17), self.high(h, number(NEWTON_32_17)))
        for _ in range(3):
            error = self.high(r, chain.sub(number(2**29), self.high(h, r)))
            r = chain.add(r, chain.shift_left(error, number(2)))
        full = chain.greater_equal(r, number(2**30))
        return chain.select(full, number(ONE), chain.shift_left(r, number(1))), zeros

    def probabilities(self, x, multiplier, shift):
        """int8 codes of scale 1/256 and zero point -128."""
        chain, number = self.chain, self.number
        wide = chain.rescale(x, 32)
        below = chain.sub(wide, chain.reduce(wide, "max"))
        counted = chain.greater_equal(below, number(-(REACH >> shift)))
        shifted = chain.shift_left(chain.select(counted, below, number(0)), number(shift))
        e = chain.select(counted, self.exponential(self.high(shifted, number(multiplier))), number(0))
        r, zeros = self.reciprocal(chain.reduce(chain.shift_right(e, number(12)), "sum"))
        share = chain.shift_right(self.high(r, e), chain.sub(number(35), zeros))
        return chain.rescale(share, 8, zero_points=(0, PROBABILITY_ZERO))


def input_parameters(scale):
    """Multiplier and left shift that bring differences of codes to Q5.26."""
    return replicas.quantize_multiplier(min(max(float(scale) * 2.0**26, 1.0), float(ONE)))


def parameter_fields(scale):
    multiplier, shift = input_parameters(scale)
    return {"multiplier": np.int32(multiplier), "shift": np.int32(shift)}


def softmax_int8(random, collector):
    """Rows of 1 to 64 codes, from nearly flat to one-hot; some rows are constant."""
    for case in range(64):
        rows, width = int(random.integers(2, 9)), int(random.integers(1, 65))
        x = random.integers(-128, 128, (rows * collector.bulk, width)).astype(np.int8)
        x[0] = random.integers(-128, 128)
        fields = {"x": x, "x_scale": np.float32(random_scale(random, -9, 0))}
        fields |= parameter_fields(fields["x_scale"])
        chain = Chain()
        numbers = int(fields["multiplier"]), int(fields["shift"])
        chain.output(Softmax(chain, 2).probabilities(chain.input(x, 8), *numbers))
        (y,) = chain.prove(collector, f"softmax, case {case}")
        collector.add(**fields, y=y)


def attention_fields(random, case, bulk):
    """q [B,M,D], k transposed [B,D,T] and v [B,T,D], with the rescales of scores and of the result."""
    batch, rows, depth, frames = (int(size) for size in random.integers(1, [3, 9, 17, 33]))
    shapes = {"q": (batch, rows * bulk, depth), "k": (batch, depth, frames), "v": (batch, frames, depth)}
    fields = {name: random.integers(-128, 128, shape).astype(np.int8) for name, shape in shapes.items()}
    names = ("q", "k", "v", "scores", "y")
    zero_points = random.integers(-20, 21, len(names))
    fields |= {f"{n}_zero_point": np.int32(z) for n, z in zip(names, zero_points, strict=True)}
    fields["scores_scale"] = np.float32(random_scale(random, -7, -2))
    fields |= parameter_fields(fields["scores_scale"])
    reals = random.uniform(20, 80) / (5400 * np.sqrt(depth)), 2.0**-8 * random.uniform(1, 2)
    for name, real in zip(("scores", "y"), reals, strict=True):
        multiplier, shift = replicas.quantize_multiplier(2.0**-9 if case % 4 == 0 and name == "y" else real)
        fields[f"{name}_multiplier"], fields[f"{name}_shift"] = np.int32(multiplier), np.int8(31 - shift)
    return fields


def attention_int8(random, collector):
    """MATMUL, RESCALE, softmax, MATMUL, RESCALE; scores, probabilities and the result are compared."""
    for case in range(48):
        fields, chain = attention_fields(random, case, collector.bulk), Chain()
        q, k, v = (chain.input(fields[name], 8) for name in "qkv")
        zero = {name: int(fields[f"{name}_zero_point"]) for name in ("q", "k", "v", "scores", "y")}
        rescales = {n: (fields[f"{n}_multiplier"], fields[f"{n}_shift"]) for n in ("scores", "y")}
        products = chain.matmul(q, k, (zero["q"], zero["k"]))
        scores = chain.rescale(products, 8, *rescales["scores"], (0, zero["scores"]))
        numbers = int(fields["multiplier"]), int(fields["shift"])
        shares = Softmax(chain, 3).probabilities(scores, *numbers)
        mixed = chain.matmul(shares, v, (PROBABILITY_ZERO, zero["v"]))
        y = chain.rescale(mixed, 8, *rescales["y"], (0, zero["y"]))
        for value in (scores, shares, y):
            chain.output(value)
        results = dict(
            zip(("scores", "shares", "y"), chain.prove(collector, f"attention {case}"), strict=True)
        )
        collector.add(**fields, **results)


OPERATORS = {"softmax_int8": ("gemmlowp", softmax_int8), "attention_int8": ("single", attention_int8)}
