"""Which body stands for which elementwise function, sign, comparison and choice."""

from collections.abc import Callable

from nnaq.export import bodies_choices, bodies_division, bodies_lut, bodies_piecewise, bodies_signs
from nnaq.kernels.piecewise import GATE, LINE, SLOPES
from nnaq.kernels.signs import CEIL_PART, FLOOR_PART, ROUND_PART

TABLES = (
    *("silu", "gelu", "mish", "softplus", "log_sigmoid", "softsign"),
    *("elu", "celu", "selu", "erf", "sin", "cos", "power"),
)

BODIES: dict[str, Callable[..., tuple[str, ...]]] = {
    **dict.fromkeys(TABLES, bodies_lut.table),
    "leaky_relu": bodies_piecewise.pieces(SLOPES),
    "thresholded_relu": bodies_piecewise.pieces(SLOPES),
    "hard_sigmoid": bodies_piecewise.pieces(LINE),
    "hard_swish": bodies_piecewise.pieces(GATE),
    "prelu": bodies_piecewise.prelu,
    "reciprocal": bodies_division.reciprocal,
    "rsqrt": bodies_division.rsqrt,
    "div": bodies_division.div,
    "floor_divide": bodies_division.floor_divide,
    "abs": bodies_signs.signed("Abs"),
    "neg": bodies_signs.signed("Neg"),
    "sign": bodies_signs.sign,
    "floor": bodies_signs.part(FLOOR_PART),
    "ceil": bodies_signs.part(CEIL_PART),
    "round": bodies_signs.part(ROUND_PART),
    "minimum": bodies_choices.extreme("Min"),
    "maximum": bodies_choices.extreme("Max"),
    "clip": bodies_choices.clip,
    "where": bodies_choices.where,
    "equal": bodies_choices.comparison("Equal"),
    "less": bodies_choices.comparison("Less"),
    "less_or_equal": bodies_choices.comparison("LessOrEqual"),
    "greater": bodies_choices.comparison("Greater"),
    "greater_or_equal": bodies_choices.comparison("GreaterOrEqual"),
    "logical_and": bodies_choices.logic("And"),
    "logical_or": bodies_choices.logic("Or"),
    "logical_xor": bodies_choices.logic("Xor"),
    "logical_not": bodies_choices.logic("Not"),
}
