"""Scales and offsets of a lowered model as JSON, in the shape of AIMET's encodings 1.0.0.

    {"version": "1.0.0", "activation_encodings": [ENTRY, …], "param_encodings": [ENTRY, …]}
    ENTRY = {"name", "enc_type": PER_TENSOR or PER_CHANNEL, "dtype": "INT", "bw", "is_sym", "scale": […],
             "offset": […]}

There real = (u + offset) * scale over codes u = q + 2^(bw-1) that start at 0, so that
offset = -2^(bw-1) - zero_point. Activations are the values of the graph that have codes, parameters its
constants that have a scale. Lost: palettes (a parameter has the 8 bits of its table's codes), axes of
channels (readers know them by the operator), states, roundings, multipliers and all tables.
"""

from typing import Any

from nnaq.ir.graph import Graph
from nnaq.ir.types import Quant, TensorType, bits

VERSION = "1.0.0"
DTYPES = {4: "i4", 8: "i8", 16: "i16", 32: "i32", 48: "i48"}


def encodings(graph: Graph) -> dict[str, Any]:
    """The encodings of every value and constant of an integer graph that has a scale."""
    entries = {name: _entry(name, kind) for name, kind in graph.types.items() if kind.quant is not None}
    return {
        "version": VERSION,
        "activation_encodings": [e for name, e in entries.items() if name not in graph.constants],
        "param_encodings": [e for name, e in entries.items() if name in graph.constants],
    }


def _entry(name: str, kind: TensorType) -> dict[str, Any]:
    assert kind.quant is not None
    width, scales = bits(kind.dtype), list(kind.quant.scale)
    offset = -(2 ** (width - 1)) - kind.quant.zero_point
    return {
        "name": name,
        "enc_type": "PER_TENSOR" if kind.quant.axis is None else "PER_CHANNEL",
        "dtype": "INT",
        "bw": width,
        "is_sym": kind.quant.zero_point == 0,
        "scale": scales,
        "offset": [offset] * len(scales),
    }


def code_type(entry: dict[str, Any], axis: int | None = None) -> TensorType:
    """The code type that an entry says, without its shape; axis: of the channels, which it does not say."""
    dtype, zero = DTYPES[entry["bw"]], -(2 ** (entry["bw"] - 1)) - entry["offset"][0]
    channels = axis if entry["enc_type"] == "PER_CHANNEL" else None
    return TensorType(dtype, (), Quant(tuple(entry["scale"]), zero, channels))
