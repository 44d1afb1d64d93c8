"""The C99 references compute the very integers of the kernels, and the files for hardware teams say them."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from export.integer_graphs import integer_node, random_inputs
from export.test_bodies_of_lstm import stream as lstm_stream

from nnaq.export.c import hex_lines, node_values, write_c, write_nodes
from nnaq.export.c_calls import CALLS, ROUNDINGS
from nnaq.ir.build import Builder
from nnaq.ir.types import bits, parse_type
from nnaq.schedule.compile import compile_step
from nnaq.targets import load_target

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler is here")
STRICT = ("-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror")
SANE = ("-fsanitize=undefined", "-fno-sanitize-recover")
IMAGE = {"stride": (2, 1), "dilation": (1, 2), "activation": "none"}
LAYER = {"activation": "relu"}


def checked(folder, *flags):
    """What the compiled check says, and its exit code."""
    program = folder / "c" / "check"
    subprocess.run([COMPILER, *STRICT, *flags, "check.c", "-o", program], cwd=folder / "c", check=True)
    said = subprocess.run([program], capture_output=True, text=True, check=False)
    return said.returncode, said.stdout.splitlines()


def every_operator(rounding):
    """The operators with a reference, by one rounding; scales are powers of two, so that ties are met."""
    build, random = Builder(rounding), np.random.default_rng(1)

    def node(op, inputs, output, attrs=None, weight=None, reals=None):
        names = [build.input(f"{op}.{len(build.inputs)}", parse_type(kind)) for kind in inputs]
        if weight is not None:
            codes = random.integers(-127, 128, weight_kind(weight).shape).astype(np.int8)
            names.append(build.constant(f"{op}.{len(build.constants)}.w", codes, weight_kind(weight)))
        (made,) = integer_node(build, op, names, [output], attrs, rounding, reals)
        build.output(made)

    def weight_kind(text):
        return parse_type(text)

    for shift in (0, 1, 3, 7, 12):
        node("rescale", ["i16[300]<0.0078125, 0>"], f"i8[]<{2.0 ** (shift - 7)!r}, 3>")
        node("rescale", ["i32[300]<0.0078125, 0>"], f"i16[]<{2.0 ** (shift - 7)!r}, 0>")
    bias = {2: random.normal(0, 1, 4)}
    node("fully_connected", ["i8[5,6]<0.0625, -3>"], "i8[]<0.5, 5>", LAYER, "i8[4,6]<0.03125, 0>", bias)
    node(
        "fully_connected",
        ["i16[5,1]<0.0625, 0>"],
        "i16[]<4.0, 0>",
        {"activation": "none"},
        "i8[4,1]<0.03125, 0>",
    )
    grouped = {**IMAGE, "groups": 2, "padding": (1, 0, 2, 1)}
    node("conv2d", ["i8[2,4,6,5]<0.0625, -3>"], "i8[]<0.5, 5>", grouped, "i8[4,2,3,2]<0.03125, 0>", bias)
    one = {"stride": 2, "dilation": 1, "activation": "relu", "groups": 1, "padding": (2, 1)}
    node("conv1d", ["i8[2,3,7]<0.0625, -128>"], "i8[]<0.5, 127>", one, "i8[4,3,3]<0.03125, 0>", bias)
    pair = ["i8[40,1]<0.0625, -3>", "i8[50]<0.03125, 9>"]
    for op in ("add", "sub", "mul"):
        node(op, pair, "i8[]<0.125, 5>")
    node("add", ["i16[40]<0.0625, 0>", "i8[40]<0.03125, 9>"], "i16[]<0.0625, 0>")
    node("sub", ["i16[40]<0.0625, 0>", "i16[40]<0.03125, 0>"], "i8[]<0.5, 7>")
    node("relu", ["i8[40]<0.0625, -3>"], "i8[]<0.0625, -3>")
    node("square", ["i8[40]<0.0625, -3>"], "i32[]<0.00390625, 0>")
    node("sigmoid", ["i8[256]<0.0625, -3>"], "i8[]<0.00390625, -128>")
    if rounding != "pot_shift":
        node("tanh", ["i16[300]<0.000244140625, 0>"], "i16[]<3.0517578125e-05, 0>")
        node("tanh", ["i16[300]<0.000244140625, 0>"], "i8[]<0.0078125, 0>")
    return build.build()


@needs_compiler
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_references_compute_what_the_kernels_compute(rounding, tmp_path):
    graph = every_operator(rounding)
    write_nodes(graph, random_inputs(graph, 2), tmp_path)
    code, said = checked(tmp_path, *(SANE if rounding == "double" else ()))
    assert (code, said[-1]) == (0, f"{len(graph.nodes)} nodes, 0 differ")


@needs_compiler
@pytest.mark.parametrize(
    "choice",
    [
        {"fraction": 9, "rounding": "double"},
        {"fraction": 15, "batch": 2},
        {"x": "i16[T,1,10]<0.0002, 0>", "rounding": "double_m16"},
        {"fraction": 12, "rounding": "floor", "lut_entries": 65536},
        {"fraction": 13, "rounding": "double", "lut_entries": 65536, "curves": "tflite"},
    ],
)
def test_the_lstm_s_reference_computes_what_the_kernel_computes(choice, tmp_path):
    if choice.get("batch"):
        choice = {**choice, "x": "i8[T,2,10]<0.05, -6>"}
    graph = lstm_stream(**choice)
    write_nodes(graph, random_inputs(graph, 3), tmp_path)
    assert checked(tmp_path)[1][-1] == "1 nodes, 0 differ"


@needs_compiler
def test_one_wrong_code_is_told(tmp_path):
    graph = every_operator("single")
    write_nodes(graph, random_inputs(graph, 2), tmp_path)
    header = tmp_path / "c" / "010.h"
    text = header.read_text()
    at = text.index("e0[]")
    first = text[at:].split("\n")[1].split(",")[0]
    changed = text[at:].replace(first, f"{first} + 1", 1)
    header.write_text(text[:at] + changed)
    code, said = checked(tmp_path)
    assert code == 1 and "010: 1 differ" in said


def test_what_has_no_reference_has_its_codes_all_the_same(tmp_path):
    graph = lstm_stream(projection=4)
    write_nodes(graph, random_inputs(graph, 3), tmp_path)
    (entry,) = json.loads((tmp_path / "index.json").read_text())
    assert (entry["op"], entry["reference"], entry["y"][1]["shape"]) == ("lstm", False, [1, 4])
    assert not (tmp_path / "c" / "000.h").exists()
    assert len((tmp_path / "hex" / entry["y"][0]["hex"]).read_text().split()) == 8


def test_hex_is_two_s_complement_in_the_order_of_the_axes():
    kinds = {"i8": "fd\n7f\n80\n", "i16": "fffd\n007f\nff80\n", "i32": "fffffffd\n0000007f\nffffff80\n"}
    for dtype, text in kinds.items():
        assert hex_lines(np.array([[-3], [127], [-128]]), parse_type(f"{dtype}[3,1]")) == text
    assert hex_lines(np.array([-7, 7]), parse_type("i4[2]")) == "9\n7\n"


def test_a_folder_holds_every_code_the_image_and_the_commands(tmp_path):
    graph, target = lstm_stream(), load_target("edge8")
    inputs = random_inputs(graph, 3)
    write_c(graph, inputs, target, tmp_path / "hardware")
    folder, values = tmp_path / "hardware", node_values(graph, inputs)
    for entry in json.loads((folder / "index.json").read_text()):
        for held in filter(None, (*entry["x"], *entry["y"])):
            lines = (folder / "hex" / held["hex"]).read_text().split()
            width = bits(held["dtype"])
            codes = [int(line, 16) - (int(line, 16) >> (width - 1) << width) for line in lines]
            np.testing.assert_array_equal(codes, values[held["value"]].reshape(-1))
    step = compile_step(graph, target)
    image = [int(line, 16) for line in (folder / "image.hex").read_text().split()]
    np.testing.assert_array_equal(image, step.image.pack())
    commands = json.loads((folder / "commands.json").read_text())
    assert [c["node"] for c in commands["step"]] == [c.node for c in step.commands]
    assert [c["needs"] for c in commands["step"]] == [list(c.needs) for c in step.commands]


def test_every_operator_with_a_reference_is_tried():
    tried = {node.op for node in every_operator("single").nodes} | {"lstm"}
    tables = {op for op, call in CALLS.items() if call is CALLS["sigmoid"]}
    assert CALLS.keys() - tables <= tried
