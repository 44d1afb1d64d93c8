"""int8 ADD, SUB and MUL of the TOSA reference model with the rescales around them."""

import numpy as np
from tosa_chain import Chain
from tosa_graph import BOTH, ROUNDINGS, random_multipliers

HEADROOM = 20


def operands(random, bulk):
    """Two vectors of codes with the corner pairs first, and zero points."""
    a, b = random.integers(-128, 128, (2, 192 * bulk)).astype(np.int8)
    a[:4], b[:4] = [-128, -128, 127, 127], [-128, 127, -128, 127]
    zeros = random.integers(-128, 128, 3)
    zero_points = {f"{name}_zero_point": np.int32(z) for name, z in zip("aby", zeros, strict=True)}
    return {"a": a, "b": b, **zero_points}


def centred(chain, fields, name):
    return chain.rescale(chain.input(fields[name], 8), 32, zero_points=(int(fields[f"{name}_zero_point"]), 0))


def finish(collector, fields, chains, totals, multiplier, shift):
    """Rescale the totals to int8 in both roundings and keep the case."""
    results = []
    for chain, total in zip(chains, totals, strict=True):
        collector.note_ties(total.array * int(multiplier), int(shift))
        zero_points = (0, int(fields["y_zero_point"]))
        chain.output(chain.rescale(total, 8, multiplier, shift, zero_points))
        results += chain.prove(collector, "elementwise")
    collector.add(**fields, y_single=results[0], y_double=results[1])


def total_of(random, collector, name):
    """Operands << 20 to a common scale, their sum to int8; its right shift sweeps 17..24."""
    for case in range(96):
        fields = operands(random, collector.bulk)
        multiplier = random_multipliers(random, 3, power_of_two=case % 2 == 0)
        right_shift = np.array([*random.integers(0, 8, 2), 17 + case // 2 % 8])
        right_shift[random.integers(0, 2)] = 0  # the larger of both scales
        shift = (31 + right_shift).astype(np.int8)
        chains, totals = [Chain(rounding) for rounding in ROUNDINGS], []
        for chain in chains:
            sides = []
            for i, side in enumerate("ab"):
                lifted = chain.shift_left(centred(chain, fields, side), chain.constant(HEADROOM, 32, 1))
                sides.append(chain.rescale(lifted, 32, multiplier[i], shift[i]))
            totals.append(chain.add(*sides) if name == "add" else chain.sub(*sides))
        fields |= {"multiplier": multiplier, "shift": shift}
        finish(collector, fields, chains, totals, multiplier[2], shift[2])


def mul_int8(random, collector):
    """The right shift sweeps 0..15, the whole reach of a product."""
    for case in range(96):
        fields = operands(random, collector.bulk)
        (multiplier,) = random_multipliers(random, 1, power_of_two=case % 2 == 0)
        shift = np.int8(31 + case // 2 % 16)
        chains = [Chain(rounding) for rounding in ROUNDINGS]
        totals = [chain.mul(*(centred(chain, fields, side) for side in "ab")) for chain in chains]
        fields |= {"multiplier": np.int32(multiplier), "shift": shift}
        finish(collector, fields, chains, totals, multiplier, shift)


OPERATORS = {
    "add_int8": (BOTH, lambda *args: total_of(*args, "add")),
    "sub_int8": (BOTH, lambda *args: total_of(*args, "sub")),
    "mul_int8": (BOTH, mul_int8),
}
