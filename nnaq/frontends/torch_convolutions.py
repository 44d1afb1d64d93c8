"""Convolutions, with the BatchNorm behind them folded in, and BatchNorm on its own."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from nnaq.frontends.ports import Unsupported
from nnaq.frontends.torch_importer import Call, Handler
from nnaq.ir.op import Attr

BATCH_NORMS = ("aten::batch_norm", "aten::_native_batch_norm_legit_no_training")


def conv(spatial: int) -> Handler:
    """nn.Conv1d, nn.Conv2d with a BatchNorm right behind folded in."""
    return lambda call: _conv(call, f"conv{spatial}d", spatial)


def conv_transpose(spatial: int) -> Handler:
    """nn.ConvTranspose1d, nn.ConvTranspose2d likewise; weights are [C, O / groups, K..]."""
    return lambda call: _conv(call, f"conv_transpose{spatial}d", spatial)


def _conv(call: Call, op: str, spatial: int) -> None:
    transposed = op.startswith("conv_transpose")
    if len(call.shape("input")) != spatial + 2:
        raise Unsupported("its operand has no batch axis", "give it one: x[None]")
    weight, groups = call.need("weight"), call.args["groups"]
    kernel = weight.shape[2:]
    norm = next(filter(None, map(call.follower, BATCH_NORMS)), None)
    if norm is None:
        constants = [call.constant("weight", "", weight)]
        if call.array("bias") is not None:
            constants.append(call.constant("bias", "", call.need("bias")))
    else:
        constants = _folded(call, norm, groups, transposed)
    stride, dilation = (numbers(call.args[key], spatial) for key in ("stride", "dilation"))
    attrs: dict[str, Attr] = {"groups": groups, "activation": "none"}
    attrs["padding"] = conv_padding(call.args["padding"], kernel, dilation)
    attrs["stride"], attrs["dilation"] = (v[0] if spatial == 1 else v for v in (stride, dilation))
    if transposed:
        more = numbers(call.args["output_padding"], spatial)
        attrs["output_padding"] = more[0] if spatial == 1 else more
    call.result(op, [call.operand("input"), *constants], attrs)


def _folded(call: Call, norm: Call, groups: int, transposed: bool) -> list[str]:
    """Weight and bias of a convolution with the BatchNorm behind it folded in."""
    factor, offset = batch_norm_factor(norm), batch_norm_offset(norm)

    def weight_of(weight: Tensor, scale: Tensor | None, variance: Tensor) -> Tensor:
        return _scaled(weight, factor(scale, variance), groups, transposed)

    def bias_of(bias: Tensor | None, *parts: Tensor | None) -> Tensor:
        scale, _, _, variance = parts
        assert variance is not None
        return offset(*parts) if bias is None else bias * factor(scale, variance) + offset(*parts)

    parts = [norm.args.get(key) for key in ("weight", "bias", "running_mean", "running_var")]
    own, derived = call.args, call.walk.derived
    call.absorb(norm)
    call.walk.notes.append(f"batch norm {norm.source} is folded into {call.source}")
    bias = f"{call.source}.bias" if own.get("bias") is None else own["bias"].name
    return [
        derived(own["weight"].name, norm.source, weight_of, own["weight"], parts[0], parts[3]),
        derived(bias, norm.source, bias_of, own.get("bias"), *parts),
    ]


def _scaled(weight: Tensor, factor: Tensor, groups: int, transposed: bool) -> Tensor:
    """A weight with each output channel multiplied by its factor."""
    if not transposed:
        return weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
    parts = weight.reshape(groups, -1, *weight.shape[1:])
    factors = factor.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))
    return (parts * factors).reshape(weight.shape)


def numbers(given: int | Sequence[int], count: int) -> tuple[int, ...]:
    """One number or several as a tuple; torch repeats a single one."""
    values = [given] if isinstance(given, int) else list(given)
    return tuple(map(int, values * count if len(values) == 1 else values))


def conv_padding(given: Any, kernel: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """Padding as (begin of every axis, end of every axis)."""
    if isinstance(given, str):
        total = [d * (k - 1) if given == "same" else 0 for k, d in zip(kernel, dilation, strict=True)]
        return (*(t // 2 for t in total), *(t - t // 2 for t in total))
    return numbers(given, len(kernel)) * 2


def batch_norm_factor(call: Call) -> Callable[..., Tensor]:
    """factor of y = factor * x + offset, per channel, as a function of weight and running variance."""
    if call.args.get("training"):
        raise Unsupported(
            "it takes the statistics of the batch", "call module.eval(), or keep running statistics"
        )
    for key in ("running_mean", "running_var"):
        call.need(key)
    epsilon = float(call.args["eps"])

    def factor(scale: Tensor | None, variance: Tensor) -> Tensor:
        return (1.0 if scale is None else scale) / torch.sqrt(variance + epsilon)

    return factor


def batch_norm_offset(call: Call) -> Callable[..., Tensor]:
    """offset, as a function of weight, bias, running mean and running variance."""
    factor = batch_norm_factor(call)

    def offset(scale: Tensor | None, shift: Tensor | None, mean: Tensor, variance: Tensor) -> Tensor:
        return (0.0 if shift is None else shift) - mean * factor(scale, variance)

    return offset


def batch_norm(call: Call) -> None:
    """A BatchNorm on its own."""
    factor = call.derived(f"{call.source}.factor", "made", batch_norm_factor(call), "weight", "running_var")
    keys = "weight", "bias", "running_mean", "running_var"
    offset = call.derived(f"{call.source}.offset", "made", batch_norm_offset(call), *keys)
    call.result("batch_norm", [call.operand("input"), factor, offset], {})


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(BATCH_NORMS, batch_norm),
    "aten::conv1d": conv(1),
    "aten::conv2d": conv(2),
    "aten::conv_transpose1d": conv_transpose(1),
    "aten::conv_transpose2d": conv_transpose(2),
}
