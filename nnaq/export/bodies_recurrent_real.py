"""Bodies of recurrent host islands: ONNX's own LSTM and GRU, and a Scan for what they do not have."""

import numpy as np
from onnx import TensorProto, helper

from nnaq.export.body_builder import Body
from nnaq.ir.op import Signature
from nnaq.kernels import gru_numbers
from nnaq.kernels.lstm_numbers import (
    BIAS,
    C0,
    H0,
    NORM_BIAS,
    NORM_WEIGHT,
    W_PROJECTION,
    gate_count,
    is_coupled,
    norm_epsilon,
)


def lstm(
    body: Body, signature: Signature, x: str, h: str, c: str, w_input: str, w_recurrent: str, bias: str = "",
    w_projection: str = "", norm_weight: str = "", norm_bias: str = "",
) -> tuple[str, ...]:  # fmt: skip
    """ONNX's LSTM, whose gates stand in the order i, o, f, c; two biases, of which one is zero."""
    optional = (
        (BIAS, bias),
        (W_PROJECTION, w_projection),
        (NORM_WEIGHT, norm_weight),
        (NORM_BIAS, norm_bias),
    )
    bias, *variants = (name if signature.has(position) else "" for position, name in optional)
    if any(variants) or is_coupled(signature.attrs):
        return _lstm_by_frames(body, signature, (x, h, c, w_input, w_recurrent, bias, *variants))
    first = body.constant([0])
    weights = [
        body.apply("Unsqueeze", _reordered(body, w, (0, 3, 1, 2)), first) for w in (w_input, w_recurrent)
    ]
    biases = ""
    if bias:
        one = _reordered(body, bias, (0, 3, 1, 2))
        biases = body.apply("Unsqueeze", body.apply("Concat", one, body.sub(one, one), axis=0), first)
    states = [body.apply("Unsqueeze", state, first) for state in (h, c)]
    units = signature.input(H0).shape[1]
    y, h, c = body.several("LSTM", 3, x, *weights, biases, "", *states, hidden_size=units)
    second = body.constant([1])
    return (body.apply("Squeeze", y, second), *(body.apply("Squeeze", v, first) for v in (h, c)))


def _reordered(body: Body, weight: str, order: tuple[int, ...]) -> str:
    """The rows of gates in another order."""
    gates = body.several("Split", len(order), weight, axis=0, num_outputs=len(order))
    return body.apply("Concat", *(gates[k] for k in order), axis=0)


def _lstm_by_frames(body: Body, signature: Signature, operands: tuple[str, ...]) -> tuple[str, ...]:
    """The formula of `nnaq.kernels.recurrent` in a Scan: coupled gates, projections, norms."""
    x, h, c, w_input, w_recurrent, bias, w_projection, *norm = operands
    driven = body.apply("MatMul", x, body.transpose(w_input, (1, 0)))
    driven = body.add(driven, bias) if bias else driven
    columns = [body.transpose(w, (1, 0)) if w else "" for w in (w_recurrent, w_projection)]
    half = body.constant(np.array(0.5, np.float32))
    inner = Body(body)
    ports = [inner.fresh(word) for word in ("h", "c", "driven")]
    a = inner.add(ports[2], inner.apply("MatMul", ports[0], columns[0]))
    a = _normed(inner, signature, a, *norm) if any(norm) else a
    *sharp, g, last = inner.split(a, gate_count(signature.attrs))
    levels = [_sigmoid(inner, gate, half) for gate in (*sharp, last)]
    f, o = levels[-2:]
    i = inner.sub(inner.add(half, half), f) if is_coupled(signature.attrs) else levels[0]
    cell = inner.add(inner.mul(f, ports[1]), inner.mul(i, inner.apply("Tanh", g)))
    made = inner.mul(inner.apply("Tanh", cell), o)
    made = inner.apply("MatMul", made, columns[1]) if columns[1] else made
    results = [made, cell, inner.apply("Identity", made)]
    kinds = [
        [helper.make_tensor_value_info(v, TensorProto.FLOAT, None) for v in names]
        for names in (ports, results)
    ]
    graph = helper.make_graph(inner.nodes, "frame", *kinds)
    h, c, y = body.several("Scan", 3, h, c, driven, body=graph, num_scan_inputs=1)
    return y, h, c


def _normed(body: Body, signature: Signature, a: str, weight: str, bias: str) -> str:
    """Every gate of a frame normalised over its units, then weight and bias."""
    gates = gate_count(signature.attrs)
    rows = body.reshape(a, (0, gates, -1))
    ones = body.constant(np.ones(int(signature.input(C0).shape[1]), np.float32))
    epsilon = norm_epsilon(signature.attrs)
    y = body.apply("LayerNormalization", rows, ones, axis=-1, epsilon=epsilon)
    y = body.reshape(y, (0, -1))
    y = body.mul(y, weight) if weight else y
    return body.add(y, bias) if bias else y


def _sigmoid(body: Body, a: str, half: str) -> str:
    """tanh(a / 2) / 2 + 1/2, as in nnaq.kernels.lut."""
    return body.add(body.mul(half, body.apply("Tanh", body.mul(half, a))), half)


def gru(
    body: Body, signature: Signature, x: str, h: str, w_input: str, w_recurrent: str, bias: str = "",
    recurrent_bias: str = "",
) -> tuple[str, ...]:  # fmt: skip
    """ONNX's GRU, whose gates stand in the order z, r, h; a missing bias is zero."""
    first, order = body.constant([0]), (1, 0, 2)
    weights = [body.apply("Unsqueeze", _reordered(body, w, order), first) for w in (w_input, w_recurrent)]
    units = signature.input(gru_numbers.H0).shape[1]
    assert isinstance(units, int)
    zeros = body.constant(np.zeros(3 * units, np.float32))
    given = ((gru_numbers.BIAS, bias), (gru_numbers.RECURRENT_BIAS, recurrent_bias))
    biases = [_reordered(body, name, order) if signature.has(i) else zeros for i, name in given]
    both = body.apply("Unsqueeze", body.apply("Concat", *biases, axis=0), first)
    state = body.apply("Unsqueeze", h, first)
    last = int(not gru_numbers.resets_first(signature.attrs))
    y, h = body.several("GRU", 2, x, *weights, both, "", state, hidden_size=units, linear_before_reset=last)
    return body.apply("Squeeze", y, body.constant([1])), body.apply("Squeeze", h, first)
