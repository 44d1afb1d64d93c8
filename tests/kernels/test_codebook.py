"""Packed weights: the form and back, and kernels that read it give the bits of those that read codes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recurrent_nodes import GRU, LSTM, assert_equal, choices, gru_node, in_chunks, lstm_node
from simulate.lowered import layer, recurrent
from strategies import activations, codes, generators, integer_node, quantised, zero_points

from nnaq.errors import OpError
from nnaq.interpret import Interpreter
from nnaq.ir.graph import Graph
from nnaq.ir.op import lookup
from nnaq.ir.types import Palette, Quant, TensorType
from nnaq.ir.verify import verify
from nnaq.kernels import gru_numbers, lstm_numbers
from nnaq.kernels.codebook import (
    PackedCodes,
    find_indices,
    pack_codes,
    pack_indices,
    pack_reference,
    pack_zero_map,
    packed_size,
    unpack_indices,
    unpack_reference,
    unpack_zero_map,
)
from nnaq.kernels.machine.palettes import BLOCK
from nnaq.kernels.multiply import sum_products
from nnaq.kernels.narrow import Order
from nnaq.kernels.packed_blocks import blocks_of, indices_of
from nnaq.kernels.packed_rows import FEW
from nnaq.kernels.weight_panels import rows_of, weights_of

widths = st.integers(1, 8)


def some_palette(generator: np.random.Generator, bits: int, rows: int, count: int) -> Palette:
    """Random tables, some of them short, for `count` rows."""
    tables = []
    for _ in range(-(-count // rows) if rows else 1):
        size = generator.integers(1, 2**bits, endpoint=True)
        tables.append(tuple(sorted(int(v) - 128 for v in generator.choice(256, size, replace=False))))
    return Palette(bits, tuple(tables), rows)


def palette_codes(generator: np.random.Generator, palette: Palette, shape: tuple[int, ...]) -> np.ndarray:
    """Codes that the tables of their rows hold."""
    found = np.empty(shape, np.int8)
    for row in range(shape[0]):
        found[row] = generator.choice(palette.tables[palette.number(row)], shape[1:])
    return found


def own_palette(array: np.ndarray, rows: int, spare_bits: int = 0) -> Palette:
    """The palette of the codes that an array holds already."""
    step = rows or max(1, len(array))
    found = [np.unique(array[o : o + step]).tolist() for o in range(0, len(array), step)]
    tables = tuple(tuple(table) for table in found)
    bits = max(1, max(len(table) - 1 for table in tables).bit_length())
    return Palette(min(8, bits + spare_bits), tables, rows)


# The form


@given(st.data(), widths, st.integers(0, 70))
def test_packing_is_one_large_number_and_turns_back(data: st.DataObject, bits: int, count: int) -> None:
    indices = data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=count, max_size=count))
    packed = pack_indices(np.array(indices, np.uint8), bits)
    assert packed.dtype == np.uint8
    assert packed.size == packed_size(count, bits) == (count * bits + 7) // 8
    assert packed.tobytes() == pack_reference(indices, bits)
    assert unpack_indices(packed, bits, count).tolist() == indices
    assert unpack_reference(packed.tobytes(), bits, count) == indices


def test_bits_fill_bytes_from_the_lowest() -> None:
    # 5 + 1*8 + 7*64 + 2*512: bits 3..5 of the stream are index 1, index 2 crosses into byte 1.
    assert pack_indices(np.array([5, 1, 7, 2]), 3).tolist() == [0b11001101, 0b0101]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(OpError, match="indices from 0 to 4 do not fit 2 bits"):
        pack_indices(np.array([0, 4]), 2)
    with pytest.raises(OpError, match="indices from -1 to 0 do not fit 2 bits"):
        pack_indices(np.array([0, -1]), 2)
    with pytest.raises(OpError, match="3 indices of 3 bits take 2 bytes, found 1"):
        unpack_indices(np.zeros(1, np.uint8), 3, 3)
    with pytest.raises(OpError, match="bits that are not 0 behind 1 indices of 3 bits"):
        unpack_indices(np.array([8], np.uint8), 3, 1)
    two_tables = Palette(1, ((-1, 1), (2, 3)), 1)
    with pytest.raises(OpError, match=r"the code 1 of row 1 is not in its table \(2, 3\)"):
        pack_codes(np.ones((2, 3), np.int8), two_tables)
    with pytest.raises(OpError, match="2 tables for 1 rows each does not fit codes of shape"):
        pack_codes(np.ones((3, 3), np.int8), two_tables)
    with pytest.raises(OpError, match="pack_zero_map"):
        pack_codes(np.zeros(3, np.int8), Palette(1, ((1,),), 0, 3))


@given(generators, widths, st.sampled_from((0, 1, 2, 3)), st.integers(1, 6), st.integers(0, 11))
def test_codes_turn_back(
    generator: np.random.Generator, bits: int, rows: int, count: int, depth: int
) -> None:
    palette = some_palette(generator, bits, rows, count)
    array = palette_codes(generator, palette, (count, depth))
    packed = pack_codes(array, palette)
    np.testing.assert_array_equal(packed.codes(), array)
    assert packed.codes().dtype == np.int8
    assert packed.packed.tobytes() == pack_reference(find_indices(array, palette).reshape(-1).tolist(), bits)
    # Rows in whole blocks, and tables filled up to 2^bits entries.
    blocks = count * -(-depth // BLOCK)
    assert packed.nbytes == blocks * BLOCK * bits // 8 + len(palette.tables) * 2**bits


@pytest.mark.parametrize("shape", [(), (0,), (0, 4), (3,), (2, 0, 3)])
def test_codes_of_any_shape_turn_back(shape: tuple[int, ...]) -> None:
    array = np.resize(np.array([-3, 5], np.int8), shape)
    np.testing.assert_array_equal(pack_codes(array, Palette(3, ((-3, 0, 5),))).codes(), array)


@given(generators, widths, st.sampled_from((0, 1, 2)), st.integers(1, 5), st.integers(0, 11))
def test_a_zero_map_turns_back(
    generator: np.random.Generator, bits: int, rows: int, count: int, depth: int
) -> None:
    made = some_palette(generator, bits, rows, count)
    tables = tuple(tuple(v for v in table if v) or (1,) for table in made.tables)
    codes_of = palette_codes(generator, Palette(bits, tables, rows), (count, depth))
    array = np.where(generator.random((count, depth)) < 0.5, codes_of, 0).astype(np.int8)
    zeros = int((array == 0).sum())
    palette = Palette(bits, tables, rows, zeros)
    zero_map, packed = pack_zero_map(array, palette)
    flat = array.reshape(-1).tolist()
    places = [(row, code) for row in range(count) for code in array[row].tolist() if code]
    assert zero_map.tobytes() == pack_reference([int(code != 0) for code in flat], 1)
    assert packed.tobytes() == pack_reference(
        [tables[palette.number(row)].index(code) for row, code in places], bits
    )
    np.testing.assert_array_equal(unpack_zero_map(zero_map, packed, palette, array.shape), array)
    with pytest.raises(OpError, match="codes are 0, the palette says"):
        pack_zero_map(array, replace(palette, zeros=zeros + 1))


# Rows, and the kernels that read them


@given(generators, widths, st.integers(0, 3), st.integers(0, 70))
def test_blocks_turn_back(generator: np.random.Generator, bits: int, count: int, depth: int) -> None:
    indices = generator.integers(0, 2**bits, (count, depth), np.uint8)
    blocks = blocks_of(indices, bits)
    assert blocks.shape == (count, -(-depth // BLOCK) * 4 * bits)
    np.testing.assert_array_equal(indices_of(blocks, bits, depth), indices)


def test_a_block_is_planes_of_fields() -> None:
    # Fields 8j + i of 2 bits at bits 6 - 2j of byte i < 8, then bits 4j + i at bit 7 - j of 4 bytes.
    for k in range(BLOCK):
        indices = np.zeros((1, BLOCK), np.uint8)
        indices[0, k] = 0b110
        expected = [0] * 12
        expected[k % 8] |= 0b10 << 6 - 2 * (k // 8)
        expected[8 + k % 4] |= 1 << 7 - k // 4
        assert blocks_of(indices, 3)[0].tolist() == expected


def packed_sums(
    x: np.ndarray, packed: PackedCodes, bias: np.ndarray, order: Order, parts: int = 1
) -> np.ndarray:
    """Sums of rows by a packed weight, part by part, int64 [rows, outputs]."""
    made = []
    for part, own in enumerate(np.split(bias, parts)):
        out = np.empty((len(x), own.size), np.int64)
        sum_products(rows_of(x, 0), weights_of(packed, 0, parts), part, own, order, out)
        made.append(out)
    return np.concatenate(made, 1)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize(("count", "depth", "parts"), [(46, 77, 2), (35, 1030, 1), (9, 1, 3), (5, 64, 1)])
def test_few_and_many_rows_meet_every_index(bits: int, rows: int, count: int, depth: int, parts: int) -> None:
    generator = np.random.default_rng(bits)
    palette = some_palette(generator, bits, rows, count * parts)
    array = palette_codes(generator, palette, (count * parts, depth))
    packed, bias = pack_codes(array, palette), generator.integers(-99, 99, count * parts).astype(np.int32)
    for positions in (0, 1, 2, FEW - 1, FEW, FEW + 3):
        bytes_ = generator.choice([-128, 127, 5], (positions, depth)).astype(np.int8)
        words = generator.choice([-32768, 32767, 5], (positions, depth)).astype(np.int16)
        for x, order in ((bytes_, Order(2**17, fits=True)), (words, Order(511)), (words, Order(6))):
            expected = x.astype(np.int64) @ array.astype(np.int64).T + bias
            np.testing.assert_array_equal(packed_sums(x, packed, bias, order, parts), expected)


def assert_packed_is_plain(op, signature, arrays, packed: dict[int, PackedCodes]) -> None:
    """One result of packed weights, of the same weights as codes, and of the reference."""
    assert packed.keys() <= set(op.packed)
    for place, weight in packed.items():
        np.testing.assert_array_equal(weight.codes(), arrays[place])
    mixed = [packed.get(place, array) for place, array in enumerate(arrays)]
    expected = op.reference(signature, *arrays)
    assert_equal(op.fast(signature, *arrays), expected)
    assert_equal(op.fast(signature, *mixed), expected)


@st.composite
def geometries(draw, name):
    """Shapes of x and weight, and attributes."""
    if name == "fully_connected":
        depth = draw(st.sampled_from((0, 1, 7, 40)))
        return (draw(st.sampled_from((0, 1, 3, 130))), depth), (draw(st.integers(1, 9)), depth), {}
    rank, groups = int(name[-2]), draw(st.sampled_from((1, 2, 3)))
    inner, per_group = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    several = lambda low, high, count: tuple(draw(st.integers(low, high)) for _ in range(count))  # noqa: E731
    attrs = {
        "stride": several(1, 3, rank),
        "dilation": several(1, 2, rank),
        "padding": several(0, 2, 2 * rank),
        "groups": groups,
    }
    x = (draw(st.integers(0, 2)), groups * inner, *several(0, 9, rank))
    return x, (groups * per_group, inner, *several(1, 3, rank)), attrs


@st.composite
def packed_layers(draw):
    """A prepared layer, its arrays, and its weight as packed codes."""
    name = draw(st.sampled_from(("fully_connected", "conv1d", "conv2d")))
    x_shape, weight_shape, attrs = draw(geometries(name))
    generator, dtype = draw(generators), draw(st.sampled_from(("i8", "i16")))
    palette = some_palette(generator, draw(widths), draw(st.sampled_from((0, 1, 2, 5))), weight_shape[0])
    array = palette_codes(generator, palette, weight_shape)
    scales = tuple(0.5 * 2.0**-n for n in generator.integers(0, 4, weight_shape[0]))
    quant = Quant(scales, 0, 0) if draw(st.booleans()) else Quant(scales[:1])
    contract = {}
    if draw(st.booleans()):
        contract = {
            "accumulator_bits": draw(st.integers(16, 24)),
            "overflow": draw(st.sampled_from(("saturate", "wrap"))),
            "array_depth": draw(st.sampled_from((1, 3, 12))),
        }
    x = quantised(dtype, x_shape, 0.5, draw(zero_points(dtype)))
    bias = np.round(draw(codes(quantised("i16", weight_shape[:1]))) / 8.0) * 0.5 * scales[0]
    operands = [(x, draw(codes(x))), (TensorType("i8", weight_shape, quant), array)]
    operands.append(draw(st.sampled_from((None, (TensorType("f32", weight_shape[:1]), bias)))))
    attrs = {**attrs, "activation": draw(activations)}
    output = quantised(draw(st.sampled_from(("i8", "i16"))), (), 16.0)
    return *integer_node(name, operands, output, attrs, **contract), {1: pack_codes(array, palette)}


@given(packed_layers())
def test_layers_read_packed_weights(layer):
    assert_packed_is_plain(*layer)


def test_logits_read_packed_weights():
    generator = np.random.default_rng(0)
    x, weight = quantised("i8", (3, 9), 0.5, -3), quantised("i8", (5, 9), 0.25)
    array = generator.choice([-7, 0, 9], weight.shape).astype(np.int8)
    operands = [(x, generator.integers(-128, 128, x.shape).astype(np.int8)), (weight, array), None]
    node = integer_node("fully_connected", operands, quantised("i32", (), 0.125))
    assert_packed_is_plain(*node, {1: pack_codes(array, own_palette(array, 0))})


def test_a_weight_with_a_zero_point_is_unpacked_for_the_call():
    array = np.array([[-7, 0, 9], [0, 0, 9]], np.int8)
    packed = pack_codes(array, own_palette(array, 0))
    x, weight = quantised("i8", (2, 3), 0.5, -3), quantised("i8", (2, 3), 0.25, 4)
    operands = [(x, np.array([[1, -2, 3], [4, 5, -6]], np.int8)), (weight, array), None]
    node = integer_node("fully_connected", operands, quantised("i8", (), 0.5))
    assert_packed_is_plain(*node, {1: packed})


def packed_places(op, signature, arrays, rows: int, spare_bits: int) -> dict[int, PackedCodes]:
    """The weights of a recurrent node in the packed form."""
    places = [p for p in op.packed if p < len(arrays) and arrays[p] is not None and arrays[p].ndim == 2]
    return {p: pack_codes(arrays[p], own_palette(arrays[p], rows, spare_bits)) for p in places}


recurrent_choices = choices(weight="i8", weight_zero_point=0)
contracts = st.sampled_from(((), (("accumulator_bits", 20), ("overflow", "saturate"), ("array_depth", 3))))


@given(recurrent_choices, contracts, st.sampled_from((0, 1, 2)), st.integers(0, 1))
@settings(max_examples=60)
def test_an_lstm_reads_packed_weights(choice, contract, rows, spare_bits):
    op, (signature, arrays) = LSTM, lstm_node(replace(choice, contract=contract))
    packed = packed_places(op, signature, arrays, rows, spare_bits)
    assert len(packed) == (3 if choice.projection else 2)
    assert_packed_is_plain(op, signature, arrays, packed)
    if choice.sizes.frames:
        mixed = [packed.get(place, array) for place, array in enumerate(arrays)]
        assert_equal(in_chunks(op, signature, mixed, 2), op.fast(signature, *arrays))


@given(recurrent_choices, contracts, st.sampled_from((0, 1, 2)), st.integers(0, 1))
@settings(max_examples=60)
def test_a_gru_reads_packed_weights(choice, contract, rows, spare_bits):
    op, (signature, arrays) = GRU, gru_node(replace(choice, contract=contract))
    packed = packed_places(op, signature, arrays, rows, spare_bits)
    assert len(packed) == 2
    assert_packed_is_plain(op, signature, arrays, packed)
    if choice.sizes.frames:
        mixed = [packed.get(place, array) for place, array in enumerate(arrays)]
        assert_equal(in_chunks(op, signature, mixed, 2), op.fast(signature, *arrays))


def test_packed_operands_are_those_of_the_integer_form():
    assert [lstm_numbers.OPERANDS[p] for p in LSTM.packed] == ["w_input", "w_recurrent", "w_projection?"]
    assert [gru_numbers.NAMES[p] for p in GRU.packed] == ["w_input", "w_recurrent"]
    assert [lookup(name).packed for name in ("fully_connected", "conv1d", "conv2d", "matmul")] == [
        (1,),
        (1,),
        (1,),
        (),
    ]


# What an interpreter holds


def with_palettes(graph: Graph, names: tuple[str, ...], zeros: bool = False) -> Graph:
    """The graph, its constants of these names resting as the palette of their own codes."""
    types = dict(graph.types)
    for name in names:
        array = graph.constants[name]
        palette = own_palette(array, 0)
        if zeros:
            left = tuple(v for v in palette.tables[0] if v)
            palette = Palette(palette.bits, (left,), 0, int((array == 0).sum()))
        types[name] = replace(types[name], palette=palette)
    return verify(replace(graph, types=types))


def of_few_codes(graph: Graph, names: tuple[str, ...]) -> Graph:
    """The graph with weights of four different codes."""
    few = {name: (graph.constants[name] >> 6).astype(np.int8) for name in names}
    return replace(graph, constants={**graph.constants, **few})


def test_an_interpreter_holds_packed_weights_only() -> None:
    names = ("w_input", "w_recurrent")
    plain = of_few_codes(recurrent(8, 16), names)
    graph = with_palettes(plain, names)
    fast, reference = Interpreter(graph), Interpreter(graph, "reference")
    for name in names:
        held = fast.constants[name]
        assert isinstance(held, PackedCodes)
        assert held.nbytes == len(held) * (BLOCK // 4) + 4
        assert reference.constants[name] is graph.constants[name]
    unpacked = {n: held for n, held in fast.constants.items() if not isinstance(held, PackedCodes)}
    assert unpacked.keys() == graph.constants.keys() - set(names)
    assert all(np.array_equal(held, graph.constants[n]) for n, held in unpacked.items())
    x = np.random.default_rng(0).normal(size=(6, 1, 8)).astype(np.float32)
    expected = Interpreter(plain).step({"x": x})
    for interpreter in (fast, reference):
        for name, array in expected.outputs.items():
            np.testing.assert_array_equal(
                interpreter.reset() or interpreter.step({"x": x}).outputs[name], array
            )


def test_what_is_looked_at_or_mapped_stays_unpacked() -> None:
    plain = of_few_codes(layer(3, 8, 6), ("weight",))
    graph = with_palettes(plain, ("weight",))
    assert isinstance(Interpreter(graph).constants["weight"], PackedCodes)
    kept = Interpreter(graph, keep=["weight"])
    assert kept.constants["weight"] is graph.constants["weight"]
    mapped = with_palettes(plain, ("weight",), zeros=True)
    assert Interpreter(mapped).constants["weight"] is mapped.constants["weight"]
    x = np.arange(24, dtype=np.int8).reshape(3, 8)
    expected = Interpreter(plain).step({"x": x}).outputs
    for interpreter in (Interpreter(graph), kept, Interpreter(mapped)):
        assert_equal(tuple(interpreter.step({"x": x}).outputs.values()), tuple(expected.values()))
    np.testing.assert_array_equal(kept.step({"x": x}).values["weight"], graph.constants["weight"])
