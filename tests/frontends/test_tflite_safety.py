"""TFLite files that are damaged, hostile, or hold what nnaq does not read: one sentence, never a crash."""

import contextlib
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
import tflite as schema
from frontends.tflite_files import cases
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnaq.errors import FrontendError
from nnaq.frontends import check, load
from nnaq.ir.graph import Graph
from nnaq.ir.verify import verify

BASES = (
    ("variables", 3),
    ("conv_2d", 1),
    ("fully_connected", 1),
    ("reductions", 0),
    ("movement", 7),
    ("edges", 6),
)
FILES = [cases(group)[number]["model"].tobytes() for group, number in BASES]
CODES = (0.1, 0)


def written(data: bytes, folder: Path) -> Path:
    path = folder / "model.tflite"
    path.write_bytes(data)
    return path


def said(data: bytes, folder: Path) -> str:
    """The sentence a file is refused with; `check` must not crash on it either."""
    path = written(data, folder)
    with pytest.raises(FrontendError) as found:
        load(path)
    with contextlib.suppress(FrontendError):
        assert check(path)
    return str(found.value)


def graph_or_sentence(data: bytes, folder: Path) -> Graph | str:
    try:
        return verify(load(written(data, folder)).graph)
    except FrontendError as error:
        return str(error)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_changed_bytes_make_a_sentence_or_a_sound_graph(tmp_path, data):
    original = data.draw(st.sampled_from(FILES))
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(8, len(changed) - 1))] = data.draw(st.integers(0, 255))
    length = data.draw(st.one_of(st.just(len(changed)), st.integers(0, len(changed))))
    found = graph_or_sentence(bytes(changed[:length]), tmp_path)
    if isinstance(found, Graph):
        assert all(array.size < 10_000 for array in found.constants.values())


@pytest.mark.parametrize("length", [0, 3, 8, 40])
def test_a_truncated_file(tmp_path, length):
    sentence = said(FILES[0][:length], tmp_path)
    assert "is damaged" in sentence if length >= 8 else "not a TFLite file" in sentence


def test_another_identifier(tmp_path):
    assert "identifier TFL3" in said(FILES[0][:4] + b"ORTM" + FILES[0][8:], tmp_path)


# --- files made here


class Made:
    """A file of a few tensors and operators, made table by table."""

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(256)
        self.tensors: list[int] = []
        self.operators: list[int] = []
        self.codes: list[int] = []
        self.buffers = [self.buffer(None)]

    def vector(self, values: list[int], offsets: bool = True) -> int:
        self.builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            (self.builder.PrependUOffsetTRelative if offsets else self.builder.PrependInt32)(value)
        return self.builder.EndVector()

    def buffer(self, data: bytes | None) -> int:
        held = None if data is None else self.builder.CreateByteVector(data)
        schema.BufferStart(self.builder)
        if held is not None:
            schema.BufferAddData(self.builder, held)
        return schema.BufferEnd(self.builder)

    def quant(self, scale: float, zero_point: int) -> int:
        builder = self.builder
        builder.StartVector(4, 1, 4)
        builder.PrependFloat32(scale)
        scales = builder.EndVector()
        builder.StartVector(8, 1, 8)
        builder.PrependInt64(zero_point)
        zeros = builder.EndVector()
        schema.QuantizationParametersStart(builder)
        schema.QuantizationParametersAddScale(builder, scales)
        schema.QuantizationParametersAddZeroPoint(builder, zeros)
        return schema.QuantizationParametersEnd(builder)

    def tensor(
        self,
        shape: tuple[int, ...] = (1, 4),
        dtype: int = schema.TensorType.INT8,
        codes: tuple[float, int] | None = CODES,
        data: bytes | None = None,
    ) -> int:
        builder = self.builder
        if data is not None:
            self.buffers.append(self.buffer(data))
        sizes, name = self.vector(list(shape), False), builder.CreateString(f"t{len(self.tensors)}")
        quant = None if codes is None else self.quant(*codes)
        schema.TensorStart(builder)
        schema.TensorAddShape(builder, sizes)
        schema.TensorAddType(builder, dtype)
        schema.TensorAddName(builder, name)
        if data is not None:
            schema.TensorAddBuffer(builder, len(self.buffers) - 1)
        if quant is not None:
            schema.TensorAddQuantization(builder, quant)
        self.tensors.append(schema.TensorEnd(builder))
        return len(self.tensors) - 1

    def op(self, name: str, inputs: list[int], outputs: list[int], version: int = 1) -> None:
        builder, code = self.builder, getattr(schema.BuiltinOperator, name)
        schema.OperatorCodeStart(builder)
        schema.OperatorCodeAddDeprecatedBuiltinCode(builder, min(code, 127))
        schema.OperatorCodeAddBuiltinCode(builder, code)
        schema.OperatorCodeAddVersion(builder, version)
        self.codes.append(schema.OperatorCodeEnd(builder))
        ends = [self.vector(values, False) for values in (inputs, outputs)]
        schema.OperatorStart(builder)
        schema.OperatorAddOpcodeIndex(builder, len(self.codes) - 1)
        schema.OperatorAddInputs(builder, ends[0])
        schema.OperatorAddOutputs(builder, ends[1])
        self.operators.append(schema.OperatorEnd(builder))

    def bytes(self, inputs: list[int], outputs: list[int]) -> bytes:
        builder = self.builder
        parts = [self.vector(self.tensors), self.vector(inputs, False), self.vector(outputs, False)]
        parts.append(self.vector(self.operators))
        schema.SubGraphStart(builder)
        schema.SubGraphAddTensors(builder, parts[0])
        schema.SubGraphAddInputs(builder, parts[1])
        schema.SubGraphAddOutputs(builder, parts[2])
        schema.SubGraphAddOperators(builder, parts[3])
        graphs = self.vector([schema.SubGraphEnd(builder)])
        codes, buffers = self.vector(self.codes), self.vector(self.buffers)
        schema.ModelStart(builder)
        schema.ModelAddVersion(builder, 3)
        schema.ModelAddOperatorCodes(builder, codes)
        schema.ModelAddSubgraphs(builder, graphs)
        schema.ModelAddBuffers(builder, buffers)
        builder.Finish(schema.ModelEnd(builder), b"TFL3")
        return bytes(builder.Output())


def relu(version: int = 1, **kind: object) -> bytes:
    """x -> RELU -> y, of tensors of that kind."""
    made = Made()
    x, y = made.tensor(**kind), made.tensor(**kind)  # type: ignore[arg-type]
    made.op("RELU", [x], [y], version)
    return made.bytes([x], [y])


def test_the_made_file_is_good(tmp_path):
    graph = load(written(relu(), tmp_path)).graph
    assert [node.op for node in graph.nodes] == ["relu"]


def test_a_float_model(tmp_path):
    sentence = said(relu(dtype=schema.TensorType.FLOAT32, codes=None), tmp_path)
    assert "float model" in sentence
    assert "full integer quantisation" in sentence


def test_a_model_that_is_float_in_part(tmp_path):
    made = Made()
    x, y, z = made.tensor(), made.tensor(dtype=schema.TensorType.FLOAT32, codes=None), made.tensor()
    made.op("DEQUANTIZE", [x], [y])
    made.op("RELU", [y], [z])
    assert "'t1' is FLOAT32 (quantise the model" in said(made.bytes([x], [z]), tmp_path)


def test_an_unknown_version(tmp_path):
    assert "version 9 of it is not known, the newest that is read is 3" in said(relu(9), tmp_path)


@pytest.mark.parametrize("name", ["ELU", "PRELU", "DIV", "RESIZE_BILINEAR", "CUSTOM", "WHILE", "SVDF"])
def test_operators_that_are_refused_by_name(tmp_path, name):
    made = Made()
    x, y = made.tensor(), made.tensor()
    made.op(name, [x], [y])
    sentence = said(made.bytes([x], [y]), tmp_path)
    assert f"{name} at 't1': this operator is not read" in sentence
    assert "export the model to ONNX" in sentence


def test_all_problems_are_told_at_once(tmp_path):
    made = Made()
    x, y, z = (made.tensor() for _ in range(3))
    made.op("ELU", [x], [y])
    made.op("SVDF", [x], [z])
    path = written(made.bytes([x], [y, z]), tmp_path)
    assert [problem.op for problem in check(path)] == ["ELU", "SVDF"]


def test_codes_that_tflite_would_not_rescale(tmp_path):
    made = Made()
    x, y = made.tensor(), made.tensor((4, 1), codes=(0.2, 3))
    made.op("RESHAPE", [x], [y])
    assert "put a QUANTIZE before it" in said(made.bytes([x], [y]), tmp_path)


def test_a_buffer_that_is_too_short(tmp_path):
    made = Made()
    x, y, b = made.tensor(), made.tensor(), made.tensor(data=b"\x01\x02\x03")
    made.op("MAXIMUM", [x, b], [y])
    assert "is damaged" in said(made.bytes([x], [y]), tmp_path)


def test_operands_that_are_read_before_they_are_made(tmp_path):
    made = Made()
    x, y, z = (made.tensor() for _ in range(3))
    made.op("RELU", [z], [y])
    made.op("RELU", [y], [z])
    assert "'t2' is read before anything makes it" in said(made.bytes([x], [z]), tmp_path)


def test_an_output_that_nothing_makes(tmp_path):
    made = Made()
    x, y = made.tensor(), made.tensor()
    assert "nothing computes it" in said(made.bytes([x], [y]), tmp_path)


@pytest.mark.parametrize(
    "kind",
    [
        {"codes": (float("nan"), 0)}, {"codes": (0.0, 0)}, {"codes": (-0.1, 0)}, {"codes": (0.1, 300)},
        {"shape": (2**20, 2**20)}, {"shape": (1,) * 9},
    ],
)  # fmt: skip
def test_impossible_tensors(tmp_path, kind):
    assert "is damaged" in said(relu(**kind), tmp_path)


@pytest.mark.parametrize("index", [-2, 7])
def test_tensors_that_are_not_there(tmp_path, index):
    made = Made()
    x, y = made.tensor(), made.tensor()
    made.op("RELU", [index], [y])
    assert f"there is no tensor {index}" in said(made.bytes([x], [y]), tmp_path)


def test_a_node_whose_shapes_do_not_fit(tmp_path):
    made = Made()
    x, y = made.tensor((1, 4)), made.tensor((1, 5))
    made.op("RELU", [x], [y])
    assert "but the file says i8[1,5]" in said(made.bytes([x], [y]), tmp_path)


def test_an_output_that_is_an_input_or_twice_the_same(tmp_path):
    made = Made()
    x, y = made.tensor(), made.tensor()
    made.op("RELU", [x], [y])
    graph = load(written(made.bytes([x], [y, x, y]), tmp_path)).graph
    assert len({port.name for port in graph.outputs}) == 3
    assert np.all([graph.types[port.name].shape == (1, 4) for port in graph.outputs])
