"""Activations, arithmetic, comparisons and norms of torch: the graph means what torch computes."""

import re

import pytest
import torch
from frontends.torch_modules import FLAT, IMAGE, ROWS, STEPS, Of, layer, same_as_torch
from torch import nn
from torch.nn import functional

from nnaq.errors import FrontendError
from nnaq.frontends.torch import load


def weighed(norm):
    """A norm whose weights are not 1 and 0."""
    for parameter in norm.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    return layer(norm)


ACTIVATIONS = {
    "CELU": ({"alpha": 1.3}, "celu"),
    "ELU": ({"alpha": 0.7}, "elu"),
    "GELU": ({"approximate": "tanh"}, "gelu"),
    "Hardsigmoid": ({}, "hard_sigmoid"),
    "Hardswish": ({}, "hard_swish"),
    "Hardtanh": ({"min_val": -0.5, "max_val": 0.7}, "clip"),
    "LeakyReLU": ({"negative_slope": 0.2}, "leaky_relu"),
    "LogSigmoid": ({}, "log_sigmoid"),
    "Mish": ({}, "mish"),
    "PReLU": ({}, "prelu"),
    "ReLU6": ({}, "clip"),
    "SELU": ({}, "selu"),
    "SiLU": ({}, "silu"),
    "Softplus": ({}, "softplus"),
    "Threshold": ({"threshold": 0.3, "value": 0.0}, "thresholded_relu"),
}
FUNCTIONS = {
    "abs neg": (lambda x: -x.abs(), "abs neg"),
    "erf": (lambda x: torch.erf(x), "erf"),
    "sin cos": (lambda x: x.sin() + x.cos(), "sin cos add"),
    "sign": (lambda x: torch.sign(x), "sign"),
    "whole parts": (lambda x: x.floor() + x.ceil() + x.round(), "floor ceil round add add"),
    "reciprocal": (lambda x: (1 / (x.abs() + 1)).tanh(), "abs add reciprocal tanh"),
    "rsqrt": (lambda x: torch.rsqrt(x.abs() + 1), "abs add rsqrt"),
    "powers": (lambda x: (x**3) + (x.abs() + 1) ** -0.5, "power abs add rsqrt add"),
    "division": (lambda x: x.tanh() / (x.abs() + 1), "tanh abs add div"),
    "rsub": (lambda x: 2 - x, "sub"),
    "clamp": (lambda x: x.clamp(-0.5, 0.5) + x.clamp(min=0.1) + x.clamp_max(0.2), "clip clip clip add add"),
    "minimum maximum": (lambda x: torch.minimum(x, x.tanh()) + torch.maximum(x, x.exp()), ""),
    "where": (lambda x: torch.where(x > 0.2, x, x.tanh()), "greater tanh where"),
    "comparisons": (lambda x: (x >= 0.1).float() + (x < 0.3) + (x <= 0.0) + (x == x.tanh()), ""),
    "flags": (lambda x: (((x > 0) & (x < 1)) | ~(x > -1) ^ (x != 0)).float(), ""),
    "any": (lambda x: (x > 1).any(-1).float() + (x > -1).all(-1, keepdim=True).float(), ""),
    "remainder": (lambda x: torch.remainder(x.abs(), 0.5), "abs div floor mul sub"),
    "softmax of another axis": (lambda x: x.softmax(0), "transpose softmax transpose"),
    "log_softmax": (lambda x: x.log_softmax(-1), "log_softmax"),
    "cumsum": (lambda x: x.cumsum(0), "cumulative_sum"),
    "normalize": (lambda x: functional.normalize(x, dim=-1), ""),
    "variance": (lambda x: x.var(-1) + x.std(-1, unbiased=False), ""),
    "reductions": (lambda x: x.sum(0) + x.amax(0) - x.amin(0) + x.mean((0,)), ""),
    "extremes": (lambda x: x.max(0).values + x.min(0).values, "reduce_max reduce_min add"),
}
NORMS = {
    "layer norm": (weighed(nn.LayerNorm(4)), ROWS, "layer_norm"),
    "layer norm of two axes": (weighed(nn.LayerNorm((2, 4))), ROWS, "layer_norm"),
    "layer norm alone": (layer(nn.LayerNorm(4, elementwise_affine=False)), ROWS, "layer_norm"),
    "rms norm": (weighed(nn.RMSNorm(4)), ROWS, "rms_norm"),
    "group norm": (weighed(nn.GroupNorm(2, 4)), STEPS, "group_norm"),
    "instance norm": (weighed(nn.InstanceNorm1d(4, affine=True)), STEPS, "group_norm"),
    "conv_transpose1d": (layer(nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, groups=2)), STEPS, "conv_transpose1d"),
    "conv_transpose2d": (layer(nn.ConvTranspose2d(4, 3, 3, 2)), IMAGE, "conv_transpose2d"),
    "adaptive": (layer(nn.AdaptiveAvgPool1d(1)), STEPS, "reduce_mean"),
    "adaptive to a part": (layer(nn.AdaptiveAvgPool2d((2, 3))), (1, 4, 8, 6), "average_pool"),
    "nearest": (layer(nn.Upsample(scale_factor=2)), STEPS, "resize"),
    "linear interpolation": (layer(nn.Upsample(scale_factor=2, mode="linear")), STEPS, "resize"),
    "embedding": (
        Of(lambda m, x: m.inner((x.abs() * 2).round().clamp(0, 8).long()), inner=nn.Embedding(9, 3)),
        FLAT,
        "",
    ),
    "weight norm": (
        layer(nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 6, 3))),
        STEPS,
        "conv1d",
    ),
    "einsum": (Of(lambda m, x: torch.einsum("btd,bsd->bts", x, x)), ROWS, "transpose matmul"),
    "einsum of heads": (Of(lambda m, x: torch.einsum("tbh,sbh->bts", x, x.tanh())), ROWS, ""),
    "addmm": (Of(lambda m, x: torch.addmm(m.w.bias, x, m.w.weight.T), w=nn.Linear(4, 3)), FLAT, ""),
}


def ops_of(graph):
    return sorted(node.op for node in graph.nodes)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    arguments, op = ACTIVATIONS[name]
    assert ops_of(same_as_torch(layer(getattr(nn, name)(**arguments)), FLAT)) == [op]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    function, ops = FUNCTIONS[name]
    found = ops_of(same_as_torch(Of(lambda m, x: function(x)), FLAT))
    assert not ops or found == sorted(ops.split())


@pytest.mark.parametrize("name", NORMS)
def test_norms_and_layers(name):
    module, shape, ops = NORMS[name]
    found = ops_of(same_as_torch(module, shape))
    assert not ops or found == sorted(ops.split())


REFUSED = {
    "rounding": (lambda x: torch.div(x, 2, rounding_mode="trunc"), "use rounding_mode='floor'"),
    "bits": (lambda x: (x.floor().clamp(0, 3) > 1) & (x.int() & 1).bool(), "cuts the fractions"),
    "active dropout": (lambda x: functional.dropout(x, 0.5), "give training=self.training"),
    "places": (lambda x: x.max(0).indices.float(), "read the values only"),
    "sum": (lambda x: torch.einsum("ij,ik,il->jkl", x, x, x), "two operands, each axis once"),
    "batch statistics": (lambda x: functional.batch_norm(x, None, None, training=True), "module.eval()"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_with_a_way_out(name):
    function, said = REFUSED[name]
    with pytest.raises(FrontendError, match=re.escape(said)):
        load(Of(lambda m, x: function(x)), [torch.randn(5, 4)])
