"""Bodies of running sums and means: CumSum, and a Scan over frames that carries sum and count."""

import numpy as np
import onnx
from onnx import TensorProto, helper

from nnaq.export.bodies_reduce import total_codes
from nnaq.export.body_builder import Body
from nnaq.ir.op import Signature
from nnaq.ir.types import bounds
from nnaq.kernels.cumulative import limit_of
from nnaq.kernels.movement import axis_of


def _running(body: Body, signature: Signature, x: str) -> str:
    attrs = signature.attrs
    axis = axis_of(attrs["axis"], signature.input(0).rank, "cumulative_sum")
    flags = {key: int(bool(attrs.get(key, False))) for key in ("exclusive", "reverse")}
    return body.apply("CumSum", x, body.constant(axis), **flags)


def cumulative_sum(body: Body, signature: Signature, x: str, *rescale: str) -> tuple[str, ...]:
    sums = _running(body, signature, body.centred(x, signature.input(0).zero_point))
    return (total_codes(body, signature, sums, rescale),)


def real_cumulative_sum(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    return (_running(body, signature, x),)


def running_mean(
    body: Body, signature: Signature, x: str, total: str, count: str, *rescale: str
) -> tuple[str, ...]:
    """The states of every frame by a Scan, the means from them."""
    inner = Body(body)
    names = [inner.fresh(word) for word in ("sum", "count", "frame")]
    full = inner.apply("GreaterOrEqual", names[1], inner.constant(limit_of(signature.attrs)))
    kept, counted = (inner.apply("Where", full, inner.shift_right_by(name, 1), name) for name in names[:2])
    sums = inner.clip(inner.add(kept, names[2]), *bounds("i32"))
    counts = inner.add(counted, inner.constant(1))
    outputs = [sums, counts, inner.apply("Identity", sums), inner.apply("Identity", counts)]
    frames = body.centred(x, signature.input(0).zero_point)
    graph = inner.graph("frame", names, outputs)
    starts = body.wide(total), body.wide(count)
    last, last_count, all_sums, all_counts = body.several(
        "Scan", 4, *starts, frames, body=graph, num_scan_inputs=1
    )
    means = total_codes(body, signature, all_sums, rescale, all_counts)
    return means, body.codes(last, "i32"), body.codes(last_count, "i32")


def real_running_mean(body: Body, signature: Signature, x: str, total: str, count: str) -> tuple[str, ...]:
    """The same over reals; half of a count is rounded down."""
    inner = Body(body)
    names = [inner.fresh(word) for word in ("sum", "count", "frame")]
    one, half = (inner.constant(np.array(value, np.float32)) for value in (1, 0.5))
    limit = inner.constant(np.array(limit_of(signature.attrs), np.float32))
    full = inner.apply("GreaterOrEqual", names[1], limit)
    kept = inner.apply("Where", full, inner.mul(names[0], half), names[0])
    counted = inner.apply("Where", full, inner.apply("Floor", inner.mul(names[1], half)), names[1])
    sums, counts = inner.add(kept, names[2]), inner.add(counted, one)
    mean = inner.apply("Div", sums, inner.apply("Max", counts, one))
    graph = _real_graph(inner, names, [sums, counts, mean])
    last, last_count, means = body.several("Scan", 3, total, count, x, body=graph, num_scan_inputs=1)
    return means, last, last_count


def _real_graph(inner: Body, inputs: list[str], outputs: list[str]) -> onnx.GraphProto:
    ports = (
        [helper.make_tensor_value_info(v, TensorProto.FLOAT, None) for v in p] for p in (inputs, outputs)
    )
    return helper.make_graph(inner.nodes, "frame", *ports)
