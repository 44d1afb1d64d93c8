"""Palette constants in the file: exact in both runtimes and when read back, and no byte more than said."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import pytest
from export.runtimes import runtimes_agree
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from nnaq.codebooks.storage import storage_of
from nnaq.errors import ArtifactError
from nnaq.export.onnx import export_model, save
from nnaq.export.palette import UNPACK, pack
from nnaq.export.read import read_lowered
from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph
from nnaq.ir.types import Palette, TensorType
from nnaq.ir.verify import verify

SHAPES = st.lists(st.integers(1, 5), min_size=0, max_size=4).map(tuple)
WIDTHS = range(1, 9)
TENSORS = {"indices": "index_bytes", "table": "table_bytes", "zeros": "map_bytes"}


@st.composite
def palettes(draw, bits=None):
    """Codes of some shape, on a palette that holds them: any width, tables of any lengths, zeros or none."""
    shape, width = draw(SHAPES), draw(st.sampled_from(WIDTHS)) if bits is None else bits
    rows = draw(st.sampled_from([0, 1, 2, 3])) if shape else 0
    random, mapped = np.random.default_rng(draw(st.integers(0, 10**6))), draw(st.booleans())
    choices = np.setdiff1d(np.arange(-128, 128), [0] if mapped else [])
    count = -(-shape[0] // rows) if rows else 1
    lengths = [draw(st.sampled_from([1, 2**width - 1 or 1, 2**width])) for _ in range(count)]
    tables = [np.sort(random.choice(choices, min(n, choices.size), replace=False)) for n in lengths]
    return random_codes(random, shape, width, tables, rows, mapped)


def random_codes(random, shape, width, tables, rows, mapped):
    matrix = np.empty((shape[0] if shape else 1, int(np.prod(shape[1:]))), np.int8)
    for row, codes in enumerate(matrix):
        table = tables[row // rows if rows else 0]
        codes[:] = random.choice(table, codes.size) * (random.random(codes.size) < (0.5 if mapped else 1))
    codes = matrix.reshape(shape)
    zeros = int((codes == 0).sum()) if mapped else None
    return codes, Palette(width, tuple(tuple(table.tolist()) for table in tables), rows, zeros)


def holding(*constants) -> Graph:
    """A graph that hands out constants with palettes."""
    build = Builder("holding")
    for number, (codes, palette) in enumerate(constants):
        name = build.constant(f"w{number}", codes, TensorType("i8", codes.shape, palette=palette))
        kind = TensorType("i8", codes.shape)
        attrs = {"shape": codes.shape}
        build.output(build.node("reshape", [name], attrs, (f"y{number}",), (kind,))[0])
    return verify(build.build())


@settings(max_examples=40)
@given(palettes())
def test_the_body_makes_the_codes_and_the_file_is_as_small_as_said(constant):
    codes, palette = constant
    model = export_model(holding(constant))
    onnx.checker.check_model(model, full_check=True)
    (found,) = ReferenceEvaluator(model).run(None, {})
    assert (found.dtype, found.shape, found.tolist()) == (np.int8, codes.shape, codes.tolist())
    parts = storage_of("w0", codes, TensorType("i8", codes.shape, palette=palette))
    tensors = {tensor.name.removeprefix("w0:"): tensor for tensor in model.graph.initializer}
    assert tensors.keys() == set(TENSORS) - (set() if palette.zeros is not None else {"zeros"})
    for word, name in TENSORS.items():
        assert (len(tensors[word].raw_data) if word in tensors else 0) == getattr(parts, name), word


@settings(max_examples=20)
@given(st.lists(palettes(), min_size=1, max_size=4))
def test_a_file_reads_back(constants):
    graph = holding(*constants)
    with TemporaryDirectory() as folder:
        save(graph, Path(folder) / "model.onnx")
        assert read_lowered(Path(folder) / "model.onnx") == graph


def test_the_order_of_constants_does_not_show_in_the_file():
    first, second = (
        (np.array([7, -7], np.int8), Palette(1, ((-7, 7),))),
        (np.array([3], np.int8), Palette(1, ((3,),))),
    )
    graph = holding(first, second)
    turned = replace(graph, constants=dict(reversed(graph.constants.items())))
    assert export_model(turned) == export_model(graph)


def every_form():
    """Constants of every width with and without zero maps, in shapes of every rank and odd sizes."""
    random = np.random.default_rng(11)
    for width in WIDTHS:
        for mapped in (False, True):
            for shape, rows in [((), 0), ((13,), 0), ((5, 7), 2), ((6, 3, 3), 1), ((2, 3, 1, 5), 0)]:
                choices = np.setdiff1d(np.arange(-128, 128), [0] if mapped else [])
                count = -(-shape[0] // rows) if rows else 1
                size = min(2**width, choices.size)
                tables = [np.sort(random.choice(choices, size, replace=False)) for _ in range(count)]
                yield random_codes(random, shape, width, tables, rows, mapped)


def edges():
    """Nothing but zeros, nothing at all, one entry only, a map without any zero."""
    yield np.zeros((3, 5), np.int8), Palette(3, ((-1, 1),), 0, 15)
    yield np.zeros((3, 0), np.int8), Palette(3, ((-1, 1),) * 3, 1)
    yield np.full((9,), 7, np.int8), Palette(1, ((7,),))
    yield np.full((9,), 7, np.int8), Palette(1, ((7,),), 0, 0)
    yield np.zeros((4, 2), np.int8), Palette(4, ((5,),), 0, 8)


def test_both_runtimes_unpack_every_form_into_the_same_codes(tmp_path):
    runtimes_agree([(holding(*every_form(), *edges()), {}, 1)], tmp_path)
    (found,) = tmp_path.glob("*.out.npz")
    with np.load(found) as codes:
        assert len(codes.files) == 8 * 2 * 5 + 5


def test_constants_of_one_form_share_a_body():
    constants = [c for c in every_form() if c[0].ndim == 2]
    model = export_model(holding(*constants))
    unpacking = [f.name for f in model.functions if f.name.startswith("unpack_palette")]
    forms = ["", "_bits", "_bits_zeros", "_zeros"]
    assert unpacking == [f"unpack_palette{form}" for form in forms]
    assert sum(f.ByteSize() for f in model.functions if f.name in unpacking) < 16_000


def test_only_widths_that_onnx_has_elements_for_keep_their_shape():
    random = np.random.default_rng(0)
    found = {}
    for width in WIDTHS:
        table = np.arange(2**width) - 2 ** (width - 1)
        codes, palette = random_codes(random, (3, 5), width, [table], 0, False)
        indices, _ = pack("w", codes, palette)
        found[width] = (indices.data_type, tuple(indices.dims))
    assert found.pop(4) == (TensorProto.UINT4, (3, 5))
    assert found.pop(8) == (TensorProto.UINT8, (3, 5))
    assert found == {width: (TensorProto.UINT8, (-(-15 * width // 8),)) for width in found}


def test_a_zero_that_its_map_does_not_count_is_refused():
    with pytest.raises(ArtifactError, match="constant 'w' cannot be packed: 1 codes are 0"):
        pack("w", np.array([0, 7], np.int8), Palette(2, ((7,),), 0, 2))


@pytest.mark.parametrize("name", ["w0:indices", "w0:zeros", "w0:table"])
def test_packed_bytes_that_were_cut_are_refused(tmp_path, name):
    codes, palette = np.array([0, 7, -7, 7], np.int8), Palette(2, ((-7, 7),), 0, 1)
    path = tmp_path / "model.onnx"
    save(holding((codes, palette)), path)
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.dims[-1] = 0
    tensor.raw_data = b""
    onnx.save(model, path)
    with pytest.raises(ArtifactError, match="was changed after nnaq wrote it"):
        read_lowered(path)


MALFORMED = [
    *[("bits", value) for value in (0, -1, 9, 1, 3, 4, 2**62, 2.5, "x", [3], None)],
    *[("shape", value) for value in ([2**40], [2**62, 4], [-2, -2], [2**40, 0], [0], [5], 4, "a", None)],
    *[("per_table", value) for value in (0, -1, 1, 3, 2**62, 1.5, None)],
    ("extra", 3),
]


@pytest.mark.parametrize("zeros", [None, 1], ids=["plain", "mapped"])
@pytest.mark.parametrize(("name", "value"), MALFORMED, ids=str)
def test_sizes_that_the_file_does_not_hold_are_refused_before_they_take_memory(tmp_path, name, value, zeros):
    codes = np.array([[0, 7], [-7, 7]], np.int8)
    tables = ((-7, 7), (-7, 7)) if zeros else ((0, 7), (-7, 7))
    path = tmp_path / "model.onnx"
    save(holding((codes, Palette(2, tables, 1, zeros))), path)
    model = onnx.load(path)
    (node,) = [n for n in model.graph.node if n.op_type.startswith(UNPACK)]
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
    if value is not None:
        node.attribute.append(onnx.helper.make_attribute(name, value))
    onnx.save(model, path)
    with pytest.raises(ArtifactError, match="was changed after nnaq wrote it"):
        read_lowered(path)


STRANGE = {
    "indices": [
        np.zeros(0, np.uint8),
        np.full(1, 255, np.uint8),
        np.zeros(1, np.float32),
        np.zeros(1, np.int64),
    ],
    "table": [
        np.zeros((0, 0), np.int8),
        np.zeros(3, np.int8),
        np.zeros((1, 2), np.float32),
        np.array([[7, -7]]),
    ],
    "zeros": [np.zeros(0, np.uint8), np.full(1, 255, np.uint8), np.zeros(1, np.int64)],
}


@pytest.mark.parametrize(
    ("name", "array"), [(n, a) for n, arrays in STRANGE.items() for a in arrays], ids=lambda v: str(v)[:20]
)
def test_tensors_of_another_kind_are_refused(tmp_path, name, array):
    path = tmp_path / "model.onnx"
    save(holding((np.array([0, 7, -7, 7], np.int8), Palette(2, ((-7, 7),), 0, 1))), path)
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if t.name == f"w0:{name}")
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    onnx.save(model, path)
    with pytest.raises(ArtifactError, match="the palette of 'w0' cannot be unpacked: "):
        read_lowered(path)


@pytest.mark.parametrize("cut", ["input", "output"])
def test_a_node_that_names_too_few_tensors_is_refused(tmp_path, cut):
    path = tmp_path / "model.onnx"
    save(holding((np.array([0, 7], np.int8), Palette(1, ((0, 7),)))), path)
    model = onnx.load(path)
    (node,) = [n for n in model.graph.node if n.op_type.startswith(UNPACK)]
    del getattr(node, cut)[:]
    onnx.save(model, path)
    with pytest.raises(ArtifactError, match="cannot be unpacked: "):
        read_lowered(path)
