"""Activations and other smooth functions of one variable, through the tables of `nnaq.kernels.lut`.

    silu          x sigmoid(x)
    gelu          x (1 + erf(x / sqrt 2)) / 2; approximate "tanh":
                  x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2
    mish          x tanh(softplus(x))
    softplus      ln(1 + e^x)
    log_sigmoid   -softplus(-x)
    softsign      x / (1 + |x|)
    elu           x > 0: x, else alpha (e^x - 1)
    celu          x > 0: x, else alpha (e^(x / alpha) - 1)
    selu          x > 0: gamma x, else gamma alpha (e^x - 1)
    erf, sin, cos
    power         x^exponent

Attributes and their defaults are ONNX's. The bend of elu and selu at 0 lies on a grid point of the
513 entries, so interpolation never cuts it. `power` of i16 codes interpolates like the others: good
where x^exponent is smooth over the range, poor in the cells next to 0 for exponents below 1, where
reciprocal, rsqrt and sqrt have kernels of their own.
"""

import math
from typing import Any

import numpy as np

from nnaq.errors import GraphError
from nnaq.kernels.lut import sigmoid_function, table_op

SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875
_erf = np.vectorize(math.erf, otypes=[np.float64])


def erf_function(xp: Any, x: Any) -> Any:
    """erf by the array namespace, or by Python's own for NumPy, which has none."""
    return _erf(x).astype(x.dtype) if xp is np else xp.erf(x)


def softplus_function(xp: Any, x: Any) -> Any:
    """ln(1 + e^x) without overflow."""
    return xp.logaddexp(x, xp.zeros_like(x))


def log_sigmoid_function(xp: Any, x: Any) -> Any:
    return -softplus_function(xp, -x)


def silu_function(xp: Any, x: Any) -> Any:
    return x * sigmoid_function(xp, x)


def gelu_function(xp: Any, x: Any, approximate: str = "none") -> Any:
    """The exact function, or its tanh form. Raises GraphError for another word."""
    if approximate == "tanh":
        return 0.5 * x * (1.0 + xp.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))
    if approximate != "none":
        raise GraphError(f"gelu: no approximation {approximate!r}; there are none, tanh")
    return 0.5 * x * (1.0 + erf_function(xp, x * math.sqrt(0.5)))


def mish_function(xp: Any, x: Any) -> Any:
    return x * xp.tanh(softplus_function(xp, x))


def softsign_function(xp: Any, x: Any) -> Any:
    return x / (1.0 + xp.abs(x))


def celu_function(xp: Any, x: Any, alpha: float = 1.0) -> Any:
    """x where positive, else alpha (e^(x / alpha) - 1); the exponent is clipped, so no overflow."""
    return xp.where(x > 0, x, alpha * xp.expm1(xp.clip(x, None, 0.0) / alpha))


def elu_function(xp: Any, x: Any, alpha: float = 1.0) -> Any:
    return xp.where(x > 0, x, alpha * xp.expm1(xp.clip(x, None, 0.0)))


def selu_function(xp: Any, x: Any, alpha: float = SELU_ALPHA, gamma: float = SELU_GAMMA) -> Any:
    return gamma * elu_function(xp, x, alpha)


def power_function(xp: Any, x: Any, exponent: float) -> Any:
    """x^exponent; NaN or infinite where the reals have no value. Where it has no slope that is 0."""
    if exponent == int(exponent) and exponent >= 1:
        return x**exponent
    smooth = x > 0 if exponent != int(exponent) else x != 0
    rest = xp.where(x == 0, xp.zeros_like(x), xp.full_like(x, math.nan))
    if exponent <= 0:
        rest = xp.where(x == 0, xp.full_like(x, math.inf if exponent else 1.0), rest)
    return xp.where(smooth, xp.where(smooth, x, xp.ones_like(x)) ** exponent, rest)


silu = table_op("silu", silu_function)
gelu = table_op("gelu", gelu_function)
mish = table_op("mish", mish_function)
softplus = table_op("softplus", softplus_function)
log_sigmoid = table_op("log_sigmoid", log_sigmoid_function)
softsign = table_op("softsign", softsign_function)
elu = table_op("elu", elu_function)
celu = table_op("celu", celu_function)
selu = table_op("selu", selu_function)
erf = table_op("erf", erf_function)
sin = table_op("sin", lambda xp, x: xp.sin(x))
cos = table_op("cos", lambda xp, x: xp.cos(x))
power = table_op("power", power_function)
