"""The body of gru: the input product of every frame first, then a Scan over frames.

Inside the Scan h stands as h - z_h and everything is INT64; what depends on constants alone is
worked out before it. The formula is that of `nnaq.kernels.gru`.
"""

from collections.abc import Mapping

from nnaq.export.bodies_fixedpoint import rescaler
from nnaq.export.bodies_recurrent import Curve, Layer, centred_codes, driven_by, fitted, sat16, scaling_of
from nnaq.export.body_builder import Body
from nnaq.ir.op import Signature
from nnaq.kernels.fixedpoint import quantize_multiplier
from nnaq.kernels.gru_numbers import H0, NAMES, W_INPUT, W_RECURRENT, X, by_name, resets_first
from nnaq.kernels.recurrent_numbers import CURVE_TO_CODES, PRODUCT_TO_CODES, product_rounding


class _Cell:
    """The constants of one node, made ready before the Scan, and the formula of a frame."""

    def __init__(self, body: Body, signature: Signature, names: Mapping[str, str]) -> None:
        self.hidden, self.resets_first = signature.input(H0), resets_first(signature.attrs)
        self.attrs, after = signature.attrs, product_rounding(str(signature.attrs["rounding"]))
        kinds = self.hidden, signature.input(W_RECURRENT)
        self.recurrent = Layer.of(body, names, "recurrent", kinds, signature.attrs, "recurrent_bias")
        curves, self.product = (
            scaling_of(body, quantize_multiplier(scale, after), after)
            for scale in (CURVE_TO_CODES, PRODUCT_TO_CODES)
        )
        self.sigmoid, self.tanh = (
            Curve.of(body, names[name], int(signature.input(NAMES.index(name)).shape[0]), curves, self.attrs)
            for name in ("sigmoid_table", "tanh_table")
        )
        self.factor = body.wide(names["state_factor"])
        self.state, self.last = (
            rescaler(body, names[f"{who}_multiplier"], names[f"{who}_shift"], after)
            for who in ("state", "hidden")
        )

    def step(self, body: Body, driven: str, h: str) -> str:
        """The next h - z_h, from the frame's share of x."""
        *sharp, driven_n = body.split(driven, 3)
        *carried, carried_n = body.split(sat16(body, self.recurrent.sums(body, h)), 3)
        r, z = (
            self.sigmoid.value(body, fitted(body, body.add(one, other), self.attrs))
            for one, other in zip(sharp, carried, strict=True)
        )
        added = self.reset(body, r, h, carried_n)
        n = self.tanh.value(body, fitted(body, body.add(driven_n, added), self.attrs))
        before = sat16(body, self.state.requantize(body, body.mul(h, self.factor)))
        rest = fitted(body, body.sub(body.constant(2**15), z), self.attrs)
        total = body.add(body.mul(rest, n), body.mul(z, before))
        return centred_codes(body, self.last.requantize(body, total), self.hidden)

    def reset(self, body: Body, r: str, h: str, carried: str) -> str:
        """What h adds to n: reset before its product, or after it."""
        if not self.resets_first:
            return sat16(body, self.product.requantize(body, body.mul(r, carried)))
        kept = centred_codes(body, self.product.requantize(body, body.mul(r, h)), self.hidden)
        return body.split(sat16(body, self.recurrent.sums(body, kept)), 3)[2]


def gru(body: Body, signature: Signature, *operands: str) -> tuple[str, ...]:
    """y and h of a stretch of time."""
    hidden, names = signature.input(H0), by_name(operands)
    cell = _Cell(body, signature, names)
    inner = Body(body)
    ports = [inner.fresh(word) for word in ("h", "driven")]
    h = cell.step(inner, ports[1], ports[0])
    graph = inner.graph("frame", ports, [h, inner.apply("Identity", h)])
    kinds = signature.input(X), signature.input(W_INPUT)
    driven = driven_by(body, names, kinds, signature.attrs)
    start = body.centred(names["h0"], hidden.zero_point)
    last, y = body.several("Scan", 2, start, driven, body=graph, num_scan_inputs=1)
    return tuple(body.codes(body.centred(v, -hidden.zero_point), hidden.dtype) for v in (y, last))
