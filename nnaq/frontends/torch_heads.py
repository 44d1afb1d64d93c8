"""Multi-head attention over [B, heads, T, width]: what torch computes, with every axis kept apart.

torch's own function views batch and heads as one axis, which leaves no trace of either where both
are open. The parameters are those of torch.nn.functional.multi_head_attention_forward.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from nnaq.errors import FrontendError


def multi_head_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """[T,B,E] or [T,E] -> the same and the weights [B,T,S] ([B,heads,T,S] unless averaged).

    Raises FrontendError for keys and values added to the sequence.
    """
    if any(given is not None for given in (bias_k, bias_v, static_k, static_v)) or add_zero_attn:
        raise FrontendError(
            "attention with keys or values of its own is not supported; concatenate them before it"
        )
    alone = query.dim() == 2
    q, k, v = (x.unsqueeze(0) if alone else x.transpose(0, 1) for x in (query, key, value))
    if use_separate_proj_weight:
        weights: tuple[Tensor | None, ...] = (q_proj_weight, k_proj_weight, v_proj_weight)
    else:
        weights = (None,) * 3 if in_proj_weight is None else in_proj_weight.chunk(3)
    biases: tuple[Tensor | None, ...] = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
    q, k, v = (_heads(x, w, b, num_heads) for x, w, b in zip((q, k, v), weights, biases, strict=True))
    mask = _mask(attn_mask, key_padding_mask, num_heads, alone)
    scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-2, -1)
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(mask, float("-inf"))
    elif mask is not None:
        scores = scores + mask
    shares = scores.softmax(-1)
    y = functional.linear((shares @ v).transpose(1, 2).flatten(2), out_proj_weight, out_proj_bias)
    y = y.squeeze(0) if alone else y.transpose(0, 1)
    if not need_weights:
        return y, None
    shares = shares.mean(1) if average_attn_weights else shares
    return y, shares.squeeze(0) if alone else shares


def _heads(x: Tensor, weight: Tensor | None, bias: Tensor | None, heads: int) -> Tensor:
    """[B,T,E] projected and parted: [B, heads, T, E / heads]."""
    if weight is None:
        raise FrontendError("attention without projection weights is not supported")
    y = functional.linear(x, weight, bias)
    return y.reshape(*y.shape[:-1], heads, y.shape[-1] // heads).transpose(1, 2)


def _mask(attention: Tensor | None, padding: Tensor | None, heads: int, alone: bool) -> Tensor | None:
    """Both masks as one, over [B, heads, T, S]: flags of what is left out, or numbers to add."""
    if attention is not None and attention.dim() == 3:
        attention = attention.reshape(-1, heads, *attention.shape[1:])
    if padding is not None:
        padding = (padding.unsqueeze(0) if alone else padding)[:, None, None]
    if attention is None or padding is None:
        return padding if attention is None else attention
    if attention.dtype == padding.dtype == torch.bool:
        return attention | padding
    return _added(attention) + _added(padding)


def _added(mask: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=torch.float32).masked_fill(mask, float("-inf"))
