"""Narrow internals: both runtimes keep the bits that the interpreter keeps."""

from itertools import product

import pytest
from export.integer_graphs import random_inputs
from export.runtimes import runtimes_agree
from export.test_bodies_of_gru import stream as gru_stream
from export.test_bodies_of_lstm import stream as lstm_stream

from nnaq.export.onnx import export_model

BITS = (6, 7, 8, 12)


def agree(graphs, folder):
    runtimes_agree([(graph, random_inputs(graph, seed, 9), 5) for seed, graph in enumerate(graphs)], folder)


def test_lstm(tmp_path):
    graphs = [lstm_stream(internal_bits=bits) for bits in BITS]
    graphs += [lstm_stream(rounding=rounding, internal_bits=8) for rounding in ("half_even", "floor")]
    graphs += [
        lstm_stream(fraction=fraction, internal_bits=bits) for fraction, bits in product((9, 15), (6, 8))
    ]
    graphs += [lstm_stream(cifg=True, projection=5, internal_bits=bits) for bits in (6, 8)]
    graphs += [lstm_stream(normed=True, internal_bits=bits) for bits in (6, 8)]
    graphs += [lstm_stream(lut_entries=65536, internal_bits=7)]
    agree(graphs, tmp_path)


@pytest.mark.parametrize("linear_before_reset", [True, False])
def test_gru(tmp_path, linear_before_reset):
    graphs = [gru_stream(internal_bits=bits, linear_before_reset=linear_before_reset) for bits in BITS]
    graphs += [
        gru_stream(
            h="i16<3.0517578125e-05, 0>",
            rounding="double",
            internal_bits=6,
            linear_before_reset=linear_before_reset,
        )
    ]
    agree(graphs, tmp_path)


@pytest.mark.parametrize("stream", [lstm_stream, gru_stream])
def test_16_bits_leave_no_trace(stream):
    plain, asked = (export_model(graph) for graph in (stream(), stream(internal_bits=16)))
    assert plain.SerializeToString(deterministic=True) == asked.SerializeToString(deterministic=True)
    narrow = export_model(stream(internal_bits=8))
    (call,) = narrow.graph.node
    assert {a.name: a.i for a in call.attribute}["internal_bits"] == 8
    assert narrow.functions[0] != plain.functions[0]
