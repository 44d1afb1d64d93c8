"""ONNX's attention, rotary positions and causal convolution with a state, in nnaq's own operators.

Attention is two matrix products around a softmax; every way of leaving keys out (a mask, a causal
order, a window, padding of the keys) becomes flags of that softmax.
"""

import math

import numpy as np

from nnaq.frontends.onnx_importer import Call, Handler
from nnaq.frontends.onnx_repeats import diagonal_flags, part
from nnaq.frontends.onnx_sizes import OPEN
from nnaq.frontends.onnx_softmax import LOWEST
from nnaq.frontends.ports import Unsupported, reshape_to
from nnaq.ir.dims import Dim, Shape, multiply
from nnaq.ir.op import Attr
from nnaq.kernels.movement import TO_THE_END


def reshaped(call: Call, value: str, target: Shape) -> str:
    """`value` in the shape `target`; itself where it has it."""
    shape = call.type_shape(value)
    return value if shape == target else call.step("reshape", [value], reshape_to(shape, target))


def turned(call: Call, value: str, *perm: int) -> str:
    return call.step("transpose", [value], {"perm": perm})


# --- attention


def attention(call: Call) -> None:
    """Attention: softmax(scale Q K' + masks) V, with grouped heads, past keys and values, soft cap."""
    is_flat = len(call.shape(0)) == 3
    q = _heads(call, 0, call.attrs.get("q_num_heads"))
    k, v = (_with_past(call, i, _heads(call, i, call.attrs.get("kv_num_heads"))) for i in (1, 2))
    batch, heads, rows, depth = call.type_shape(q)
    groups, keys = call.type_shape(k)[1:3]
    if not (isinstance(heads, int) and isinstance(groups, int) and isinstance(depth, int)):
        raise Unsupported("its heads or their size are open", OPEN)
    scale = call.attrs.get("scale") or 1 / math.sqrt(depth)
    folded = reshaped(call, q, (batch, groups, multiply(heads // groups, rows), depth))
    product = call.step("matmul", [folded, turned(call, k, 0, 1, 3, 2)], {"gain": float(scale)})
    scores = [reshaped(call, product, (batch, heads, rows, keys))]
    if call.attrs.get("softcap"):
        cap = float(call.attrs["softcap"])
        squashed = call.step("tanh", [call.step("mul", [scores[-1], call.number(1 / cap)])])
        scores.append(call.step("mul", [squashed, call.number(cap)]))
    masked, flags = _masked(call, scores[-1])
    shares = call.step("softmax", [masked, *flags])
    _hand_out_scores(call, {0: scores[0], 1: scores[-1], 2: "" if flags else masked, 3: shares})
    weighted = reshaped(call, shares, (batch, groups, multiply(heads // groups, rows), keys))
    y = reshaped(call, call.step("matmul", [weighted, v], {}), (batch, heads, rows, call.type_shape(v)[3]))
    if not is_flat:
        return call.result("reshape", [y], {"shape": (0, 0, 0, 0)})
    y = turned(call, y, 0, 2, 1, 3)
    target = (*call.type_shape(y)[:2], multiply(*call.type_shape(y)[2:]))
    return call.result("reshape", [y], reshape_to(call.type_shape(y), target))


def _heads(call: Call, position: int, heads: int | None) -> str:
    """Q, K or V as [B,H,L,D]."""
    value, shape = call.operand(position), call.shape(position)
    if len(shape) == 4:
        return value
    if not heads or not isinstance(shape[2], int):
        raise Unsupported("it has no number of heads, or its last axis is open", OPEN)
    return turned(call, reshaped(call, value, (*shape[:2], heads, shape[2] // heads)), 0, 2, 1, 3)


def _with_past(call: Call, position: int, value: str) -> str:
    """Keys or values behind those of the past; together they are the next past."""
    past, present = position + 3, position
    if call.has(past):
        value = call.step("concat", [call.operand(past), value], {"axis": 2})
    if present < len(call.node.output) and call.node.output[present]:
        call.result("reshape", [value], {"shape": (0, 0, 0, 0)}, call.node.output[present])
    return value


def _hand_out_scores(call: Call, scores: dict[int, str]) -> None:
    """The fourth result: the scores as they stand at one of four places."""
    if len(call.node.output) < 4 or not call.node.output[3]:
        return
    value = scores[call.attrs.get("qk_matmul_output_mode", 0)]
    if not value:
        raise Unsupported("it hands out scores that are -infinity in places")
    call.result("reshape", [value], {"shape": (0, 0, 0, 0)}, call.node.output[3])


def _masked(call: Call, scores: str) -> tuple[str, list[str]]:
    """The scores with what a mask adds to them, and the flags of all masks together, if any."""
    scores, flags = _given_mask(call, scores)
    flags += _order(call, scores)
    if call.has(6):
        places = call.step("arange", [scores], {"axis": 3, "start": 0, "step": 1})
        flags.append(call.step("less", [places, _lengths(call)]))
    while len(flags) > 1:
        flags = [call.step("logical_and", flags[:2]), *flags[2:]]
    return scores, flags


def _lengths(call: Call) -> str:
    """The number of keys of each sequence, as [B,1,1,1]."""
    return reshaped(call, call.operand(6), (*call.shape(6), 1, 1, 1))


def _given_mask(call: Call, scores: str) -> tuple[str, list[str]]:
    """attn_mask: truth values are flags; numbers are added, except those of -infinity."""
    if not call.has(3):
        return scores, []
    held = call.walk.masked.get(call.node.input[3])
    shape, keys = call.shape(3), call.type_shape(scores)[-1]
    if held is not None and held.scores is None:
        return scores, [_widened(call, held.flags, shape, keys)]
    if call.kind(3) == "flag":
        return scores, [_widened(call, call.operand(3), shape, keys)]
    array, flags = call.array(3), []
    if array is not None and np.any(array <= LOWEST):
        keep = call.constant(3, "flags", array > LOWEST)
        flags.append(_widened(call, keep, shape, keys))
        value = call.constant(3, "finite", np.where(array > LOWEST, array, 0))
    else:
        value = call.operand(3)
        if shape[-1] != keys:
            ones = call.walk.constant(f"{call.source}.known", "flags", np.ones(_known(shape[-1])))
            flags.append(_widened(call, ones, shape[-1:], keys))
    if array is not None and not np.any(array > LOWEST):
        return scores, flags
    return call.step("add", [scores, _widened(call, value, shape, keys)]), flags


def _known(keys: Dim) -> int:
    if not isinstance(keys, int):
        raise Unsupported(f"its mask has {keys} keys", OPEN)
    return keys


def _widened(call: Call, value: str, shape: Shape, keys: Dim) -> str:
    """A mask with zeros for the keys it does not reach."""
    last = shape[-1]
    if last in (1, keys):
        return value
    if not (isinstance(last, int) and isinstance(keys, int)):
        raise Unsupported(f"its mask has {last} keys of {keys}", OPEN)
    pads = (0,) * (2 * len(shape) - 1) + (keys - last,)
    return call.step("pad", [value], {"pads": pads, "mode": "constant"})


def _order(call: Call, scores: str) -> list[str]:
    """Flags of a causal order and of a window around each query."""
    left, right = call.attrs.get("left_window_size", -1), call.attrs.get("right_window_size", -1)
    high = right if right >= 0 else None
    if call.attrs.get("is_causal"):
        high = 0
    low = -left if left >= 0 else None
    if low is None and high is None:
        return []
    if not call.has(6):
        past: Dim = call.shape(4)[2] if call.has(4) else 0
        if not isinstance(past, int):
            raise Unsupported(f"it has an order behind {past!r} past keys", OPEN)
        span = (None if limit is None else limit + past for limit in (low, high))
        return [diagonal_flags(call, scores, *span)]
    return _order_of_lengths(call, scores, low, high)


def _order_of_lengths(call: Call, scores: str, low: int | None, high: int | None) -> list[str]:
    """The same, where the queries are the last of as many keys as each sequence has."""
    rows = call.type_shape(scores)[2]
    if not isinstance(rows, int):
        raise Unsupported(f"it has an order over {rows!r} queries", OPEN)
    places = call.step("arange", [scores], {"axis": 3, "start": 0, "step": 1})
    row = call.walk.constant(f"{call.source}.rows", "places", np.arange(rows).reshape(-1, 1) - rows)
    here = call.step("add", [_lengths(call), row])
    flags = []
    for op, limit in (("greater_or_equal", low), ("less_or_equal", high)):
        if limit is not None:
            flags.append(call.step(op, [places, call.step("add", [here, call.number(limit)])]))
    return flags


# --- rotary positions


def rotary_embedding(call: Call) -> None:
    """RotaryEmbedding: pairs of entries turned by angles of their position."""
    shape = call.shape(0)
    x = call.operand(0)
    if len(shape) == 4:
        x = turned(call, x, 0, 2, 1, 3)
    else:
        heads, width = call.attrs.get("num_heads", 0), shape[2]
        if not heads or not isinstance(width, int):
            raise Unsupported("it has no number of heads, or its last axis is open", OPEN)
        x = reshaped(call, x, (*shape[:2], heads, width // heads))
    size = call.type_shape(x)[3]
    if not isinstance(size, int):
        raise Unsupported("the size of its heads is open", OPEN)
    wide = call.attrs.get("rotary_embedding_dim", 0) or size
    angles = [_angles(call, position) for position in (1, 2)]
    rotated = _rotated(call, part(call, x, 3, 0, wide) if wide < size else x, wide, angles)
    y = rotated
    if wide < size:
        y = call.step("concat", [rotated, part(call, x, 3, wide, TO_THE_END)], {"axis": 3})
    if len(shape) == 4:
        return call.result("transpose", [y], {"perm": (0, 2, 1, 3)})
    return call.result("reshape", [y], reshape_to(call.type_shape(y), shape))


def _angles(call: Call, position: int) -> str:
    """Cosines or sines as [B,T,1,D/2]: a table read at the positions, or given for each."""
    value = call.operand(position)
    if call.has(3):
        value = call.step("gather", [value, call.operand(3)], {"axis": 0})
    batch, time, half = call.type_shape(value)
    return reshaped(call, value, (batch, time, 1, half))


def _rotated(call: Call, x: str, wide: int, angles: list[str]) -> str:
    """(cos a - sin b, sin a + cos b) of the pairs (a, b), side by side or half by half."""
    cos, sin = angles
    shape = call.type_shape(x)
    interleaved = bool(call.attrs.get("interleaved"))
    if interleaved:
        cut: dict[str, Attr] = {"ends": (TO_THE_END,), "axes": (3,), "steps": (2,)}
        a, b = (call.step("slice", [x], {**cut, "starts": (start,)}) for start in (0, 1))
    else:
        a, b = part(call, x, 3, 0, wide // 2), part(call, x, 3, wide // 2, TO_THE_END)
    real = call.step("sub", [call.step("mul", [cos, a]), call.step("mul", [sin, b])])
    imaginary = call.step("add", [call.step("mul", [sin, a]), call.step("mul", [cos, b])])
    if not interleaved:
        return call.step("concat", [real, imaginary], {"axis": 3})
    pair = [reshaped(call, value, (*call.type_shape(value), 1)) for value in (real, imaginary)]
    return reshaped(call, call.step("concat", pair, {"axis": 4}), shape)


# --- gates and states


def swiglu(call: Call) -> None:
    """SwiGLU: swish(a) b."""
    alpha = float(call.attrs.get("alpha", 1.0))
    a, b = call.operand(0), call.operand(1)
    if alpha == 1:
        gate = call.step("silu", [a])
    else:
        gate = call.step("mul", [a, call.step("sigmoid", [call.step("mul", [a, call.number(alpha)])])])
    call.result("mul", [gate, b])


def causal_conv(call: Call) -> None:
    """CausalConvWithState: a depthwise conv1d behind the last entries of the past."""
    weight = call.need(1, "weight")
    channels, _, kernel = weight.shape
    x = call.operand(0)
    if call.has(3):
        joined = call.step("concat", [call.operand(3), x], {"axis": 2})
    else:
        pads = (0, 0, kernel - 1, 0, 0, 0)
        joined = call.step("pad", [x], {"pads": pads, "mode": "constant"}) if kernel > 1 else x
    attrs: dict[str, Attr] = {"stride": 1, "dilation": 1, "padding": (0, 0), "activation": "none"}
    operands = [joined, call.constant(1, "", weight)]
    if call.has(2):
        operands.append(call.constant(2, "", call.need(2, "bias")))
    y = call.step("conv1d", operands, {**attrs, "groups": channels})
    word = call.word("activation", "none")
    call.result(*(("silu", [y]) if word in ("silu", "swish") else ("reshape", [y], {"shape": (0, 0, 0)})))
    if len(call.node.output) > 1 and call.node.output[1]:
        cut: dict[str, Attr] = {"ends": (TO_THE_END,), "axes": (2,), "steps": (1,)}
        start = -(kernel - 1) if kernel > 1 else TO_THE_END
        call.result("slice", [joined], {**cut, "starts": (start,)}, call.node.output[1])


HANDLERS: dict[str, Handler] = {
    "Attention": attention,
    "CausalConvWithState": causal_conv,
    "RotaryEmbedding": rotary_embedding,
    "SwiGLU": swiglu,
}
