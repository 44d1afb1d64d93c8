"""What a weight takes at rest, part by part, and the least a coder could make of it."""

from dataclasses import asdict, replace
from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulate.lowered import Lowered, layer

from nnaq.codebooks.storage import entropy_bits, palette_bytes, storage_of, storage_of_graph
from nnaq.errors import OpError
from nnaq.ir.types import Palette, parse_type
from nnaq.ir.verify import verify
from nnaq.kernels.codebook import pack_codes, pack_zero_map


def test_every_part_is_counted():
    codes = np.array([[-8, 0, 8, 0, 8]] * 3, np.int8)
    kind = parse_type("i8[3,5]<[0.1, 0.2, 0.3]@0, 0> palette2(-8, 0, 8)")
    found = storage_of("w", codes, kind)
    total, plain = 4 + 3 + 15, 15 + 15
    assert asdict(found) == {
        "name": "w",
        "values": 15,
        "bits": 2,
        "index_bytes": 4,  # 30 bits
        "table_bytes": 3,
        "map_bytes": 0,
        "scale_bytes": 15,  # a multiplier and a shift per channel
        "entropy_bits": pytest.approx(0.2 * log2(5) + 2 * 0.4 * log2(2.5)),
        "ratio_to_int8": total / plain,
    }
    assert found.total_bytes == total


def test_a_zero_map_leaves_indices_to_the_others():
    codes = np.array([0, 0, 0, 0, 0, 0, 8, 8, -8, 8], np.int8)
    found = storage_of("w", codes, parse_type("i8[10]<0.1, 0> palette1+6(-8, 8)"))
    assert (found.index_bytes, found.table_bytes, found.map_bytes) == (1, 2, 2)
    of_map = -0.6 * log2(0.6) - 0.4 * log2(0.4)
    of_others = -0.75 * log2(0.75) - 0.25 * log2(0.25)
    assert found.entropy_bits == pytest.approx(of_map + 0.4 * of_others)


@pytest.mark.parametrize(("dtype", "bits", "index_bytes"), [("i4", 4, 8), ("i8", 8, 15), ("i16", 16, 30)])
def test_a_weight_without_a_palette_is_its_codes(dtype, bits, index_bytes):
    codes = np.arange(15, dtype=np.int16) - 7
    found = storage_of("w", codes, parse_type(f"{dtype}[15]"))
    assert (found.bits, found.index_bytes, found.table_bytes, found.scale_bytes) == (bits, index_bytes, 0, 0)
    assert found.entropy_bits == pytest.approx(log2(15))
    assert found.ratio_to_int8 == index_bytes / 15


def test_short_tables_are_filled_up_and_share_one_stream_of_indices():
    palette = Palette(2, ((-9, 9), (-1, 1, 2)), 1)
    codes = np.array([[-9, 9], [-1, 1]], np.int8)
    assert palette_bytes(codes.size, palette).table == 2 * 3
    assert entropy_bits(codes, palette) == 1.0  # 0, 1, 0, 1: nobody says which row an index is of


def test_a_code_that_no_table_holds_is_refused():
    with pytest.raises(OpError, match="the code 3 of row 0 is not in its table"):
        entropy_bits(np.array([3], np.int8), Palette(1, ((-1, 1),)))


def test_no_codes_take_no_bits():
    found = storage_of("w", np.zeros((0, 4), np.int8), parse_type("i8[0,4]"))
    assert (found.index_bytes, found.entropy_bits, found.ratio_to_int8) == (0, 0.0, 1.0)


CODES = st.lists(st.integers(-128, 127), min_size=1, max_size=300)


@given(CODES, st.booleans())
def test_a_palette_takes_what_its_packed_form_takes(values, mapped):
    codes = np.array(values, np.int8)
    entries = sorted(set(values) - ({0} if mapped else set())) or [1]
    bits = max(1, (len(entries) - 1).bit_length())
    palette = Palette(bits, (tuple(entries),), 0, values.count(0) if mapped else None)
    found = palette_bytes(codes.size, palette)
    if mapped:
        zeros, indices = pack_zero_map(codes, palette)
        assert (found.map, found.index) == (zeros.nbytes, indices.nbytes)
    else:
        assert (found.map, found.index) == (0, pack_codes(codes, palette).packed.nbytes)
    assert found.table == len(entries)
    assert found.total == found.index + found.table + found.map


@given(CODES)
def test_no_coder_without_memory_is_below_the_entropy(values):
    """The palette's own width is such a coder; entropy does not care what an index is called."""
    codes = np.array(values, np.int8)
    entries = tuple(sorted(set(values)))
    bits = max(1, (len(entries) - 1).bit_length())
    assert 0 <= entropy_bits(codes) <= log2(len(entries)) + 1e-9 <= bits + 1e-9
    assert entropy_bits(codes, Palette(bits, (entries,))) == pytest.approx(entropy_bits(codes))


@pytest.mark.parametrize("mapped", [False, True])
@given(st.integers(1, 7), st.integers(1, 4000), st.integers(1, 9))
def test_fewer_bits_are_never_more_bytes(mapped, bits, values, tables):
    def taken(width):
        table = tuple(v for v in range(-128, 128) if v or not mapped)[: 2**width]
        return palette_bytes(values, Palette(width, (table,) * tables, 1, values // 3 if mapped else None))

    assert taken(bits).total < taken(bits + 1).total


def test_a_graph_s_weights_are_listed_once_each():
    build = Lowered("twice")
    build.input("x", parse_type("i8[1,4]<0.1, 0>"))
    build.codes("w", "i8[4,4]<[0.1, 0.1, 0.1, 0.1]@0, 0>")
    (h,) = build.crossed("fully_connected", ("x", "w", np.zeros(4)), ("i8[]<0.1, 0>",), "h")
    build.output(build.crossed("fully_connected", (h, "w", np.zeros(4)), ("i8[]<0.1, 0>",), "y")[0])
    (found,) = storage_of_graph(verify(build.build()))
    assert (found.name, found.values, found.scale_bytes) == ("w", 16, 20)


def test_a_constant_with_a_palette_counts_wherever_it_stands():
    graph = layer(inputs=8, outputs=8)
    kind = parse_type("i32[8] palette1(0, 1)")
    bias = replace(graph, types={**graph.types, "y.bias": replace(kind, dtype="i8")})
    bias = replace(bias, constants={**graph.constants, "y.bias": np.zeros(8, np.int8)})
    assert [(s.name, s.bits) for s in storage_of_graph(bias)] == [("weight", 8), ("y.bias", 1)]
