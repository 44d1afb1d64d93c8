"""Good files made bad: bytes, texts and ONNX models with a few hostile changes. All of it from a seed."""

import re
from collections.abc import Callable, Sequence
from random import Random

import onnx
from onnx import TensorProto, helper

NUMBERS = (
    "-1", "0", "1", "-0.0", "3", "255", "2147483648", "-9223372036854775808", "9223372036854775807",
    "1e308", "-1e308", "5e-324", "nan", "inf", "-inf", "99999999999999999999999999", "1e999999",
)  # fmt: skip
VALUES = (
    *NUMBERS, '""', "true", "[]", "{}", "[[[]]]", '"../../../etc/passwd"', '"/dev/zero"', '"\\u0000"',
    "[1, 2]", '"' + "x" * 300 + '"', "{ x = -1 }", "1979-05-27",
    "[" * 2000 + "]" * 2000, '"' + "(a+)+" * 20 + '"',
)  # fmt: skip
WHOLE = (-1, 0, 1, 2, 3, 7, 255, 2**16, 2**24, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**31), -(2**63))
REALS = (0.0, -0.0, -1.0, 1e-45, 1e-38, 3e38, -3e38, float("nan"), float("inf"), float("-inf"))


def change_bytes(random: Random, data: bytes) -> bytes:
    """One to four of: bytes set, taken out, put in, doubled, moved, cut off."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 4)):
        random.choice(_OF_BYTES)(random, changed)
    return bytes(changed)


def _set(random: Random, data: bytearray) -> None:
    for _ in range(random.choice((1, 1, 2, 4, 8))):
        if data:
            data[random.randrange(len(data))] = random.choice((0, 1, 127, 128, 255, random.randrange(256)))


def _set_number(random: Random, data: bytearray) -> None:
    """A whole number of 2, 4 or 8 bytes, little-endian, over what was there."""
    size = random.choice((2, 4, 8))
    place = random.randrange(max(1, len(data) - size))
    data[place : place + size] = (random.choice(WHOLE) % 2 ** (8 * size)).to_bytes(size, "little")


def _stretch(random: Random, data: bytearray) -> slice:
    start = random.randrange(len(data) + 1)
    return slice(start, start + random.choice((1, 4, 16, 64, 256)))


def _take_out(random: Random, data: bytearray) -> None:
    del data[_stretch(random, data)]


def _put_in(random: Random, data: bytearray) -> None:
    start = random.randrange(len(data) + 1)
    data[start:start] = random.randbytes(random.choice((1, 4, 16)))


def _copy(random: Random, data: bytearray) -> None:
    start = random.randrange(len(data) + 1)
    data[start:start] = data[_stretch(random, data)]


def _cut(random: Random, data: bytearray) -> None:
    del data[random.randrange(len(data) + 1) :]


_OF_BYTES = (_set, _set, _set, _set_number, _set_number, _take_out, _put_in, _copy, _cut)


def change_text(random: Random, data: bytes) -> bytes:
    """A text of keys and values with other values, lines taken out, doubled or moved; or other bytes."""
    if random.random() < 0.2:
        return change_bytes(random, data)
    lines = data.decode().splitlines()
    for _ in range(random.randint(1, 3)):
        random.choice(_OF_LINES)(random, lines)
    return "\n".join(lines).encode()


def _other_value(random: Random, lines: list[str]) -> None:
    places = [n for n, line in enumerate(lines) if "=" in line]
    if places:
        n = random.choice(places)
        lines[n] = f"{lines[n].partition('=')[0]}= {random.choice(VALUES)}"


def _other_number(random: Random, lines: list[str]) -> None:
    places = [n for n, line in enumerate(lines) if re.search(r"\d", line)]
    if places:
        n = random.choice(places)
        found = random.choice(list(re.finditer(r"-?[\d.]+(e-?\d+)?", lines[n])) or [None])
        if found:
            lines[n] = lines[n][: found.start()] + random.choice(NUMBERS) + lines[n][found.end() :]


def _without_line(random: Random, lines: list[str]) -> None:
    if lines:
        lines.pop(random.randrange(len(lines)))


def _line_elsewhere(random: Random, lines: list[str]) -> None:
    if lines:
        lines.insert(random.randrange(len(lines)), random.choice(lines))


_OF_LINES = (_other_value, _other_value, _other_value, _other_number, _without_line, _line_elsewhere)


def change_onnx(random: Random, data: bytes) -> bytes:
    """An ONNX file whose parts no longer fit each other; or one with other bytes."""
    if random.random() < 0.2:
        return change_bytes(random, data)
    model = onnx.load_model_from_string(data)
    for _ in range(random.randint(1, 3)):
        random.choice(_OF_MODELS)(random, model)
    return bytes(model.SerializeToString())


def _pick(random: Random, held: Sequence[object]) -> list[object]:
    return [random.choice(held)] if held else []


def _dim(random: Random, model: onnx.ModelProto) -> None:
    for tensor in _pick(random, model.graph.initializer):
        if tensor.dims:
            tensor.dims[random.randrange(len(tensor.dims))] = random.choice(WHOLE)


def _port(random: Random, model: onnx.ModelProto) -> None:
    ports = (*model.graph.input, *model.graph.output, *model.graph.value_info)
    for port in _pick(random, ports):
        kind = port.type.tensor_type
        if random.random() < 0.3:
            kind.elem_type = random.choice((*range(24), 99))
        for dim in _pick(random, kind.shape.dim):
            if random.random() < 0.3:
                dim.dim_param = random.choice(("T", "N", "", "T+1", "T*N", "0", "\x00"))
            else:
                dim.dim_value = random.choice(WHOLE)


def _content(random: Random, model: onnx.ModelProto) -> None:
    """Another number in a tensor: an index, an axis, a scale, a weight."""
    for tensor in _pick(random, model.graph.initializer):
        raw = bytearray(tensor.raw_data)
        if tensor.data_type == TensorProto.INT64 and len(raw) >= 8:
            place = 8 * random.randrange(len(raw) // 8)
            raw[place : place + 8] = (random.choice(WHOLE) % 2**64).to_bytes(8, "little")
        elif tensor.data_type == TensorProto.FLOAT and len(raw) >= 4:
            place = 4 * random.randrange(len(raw) // 4)
            raw[place : place + 4] = helper.np.float32(random.choice(REALS)).tobytes()
        elif raw:
            _set(random, raw)
        tensor.raw_data = bytes(raw)


def _storage(random: Random, model: onnx.ModelProto) -> None:
    """Another dtype, less data than the shape asks for, or data outside the file."""
    for tensor in _pick(random, model.graph.initializer):
        what = random.randrange(4)
        if what == 0:
            tensor.data_type = random.choice((*range(28), 99))
        elif what == 1:
            tensor.raw_data = tensor.raw_data[: random.randrange(len(tensor.raw_data) + 1)]
        elif what == 2:
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(
                key="location", value=random.choice(("../../../etc/passwd", "/dev/zero"))
            )
        else:
            tensor.dims.extend([random.choice(WHOLE)])


def _attribute(random: Random, model: onnx.ModelProto) -> None:
    for node in _pick(random, model.graph.node):
        for held in _pick(random, node.attribute):
            if random.random() < 0.1:
                held.type = random.randrange(15)
            elif held.ints:
                held.ints[random.randrange(len(held.ints))] = random.choice(WHOLE)
                del held.ints[random.choice((len(held.ints), len(held.ints), 0, 1)) :]
            elif held.s:
                held.s = random.choice((b"", b"SAME_UPPER", b"VALID", b"linear", b"\xff", b"x" * 99))
            elif held.HasField("f"):
                held.f = random.choice(REALS)
            else:
                held.i = random.choice(WHOLE)


def _wiring(random: Random, model: onnx.ModelProto) -> None:
    """Another operand or result: a circle, a value made twice, one that nothing makes, one left out."""
    names = [value for node in model.graph.node for value in (*node.input, *node.output)]
    names += [tensor.name for tensor in model.graph.initializer] + ["", "nowhere"]
    for node in _pick(random, model.graph.node):
        ends = node.output if random.random() < 0.3 else node.input
        what = random.randrange(4)
        if what == 0:
            ends.append(random.choice(names))
        elif ends and what == 1:
            del ends[random.randrange(len(ends))]
        elif ends:
            ends[random.randrange(len(ends))] = random.choice(names)


def _nodes(random: Random, model: onnx.ModelProto) -> None:
    """A node of another operator, one less, one twice, or two that change places."""
    nodes = model.graph.node
    what = random.randrange(4)
    if not nodes:
        return
    place = random.randrange(len(nodes))
    if what == 0:
        nodes[place].op_type = random.choice(operators())
    elif what == 1:
        del nodes[place]
    elif what == 2:
        nodes.add().CopyFrom(nodes[place])
    else:
        held, other = onnx.NodeProto(), random.randrange(len(nodes))
        held.CopyFrom(nodes[place])
        nodes[place].CopyFrom(nodes[other])
        nodes[other].CopyFrom(held)


def _version(random: Random, model: onnx.ModelProto) -> None:
    for entry in _pick(random, model.opset_import):
        entry.version = random.choice((*range(1, 24), *WHOLE))


def _depth(random: Random, model: onnx.ModelProto) -> None:
    """Branches inside branches."""
    graph = model.graph
    for _ in range(random.choice((1, 5, 60))):
        inner = onnx.GraphProto()
        inner.CopyFrom(helper.make_graph([], "inner", [], []))
        node = helper.make_node("If", ["nowhere"], ["deep"], then_branch=inner, else_branch=inner)
        graph.node.append(node)
        graph = graph.node[-1].attribute[0].g


_OF_MODELS: tuple[Callable[[Random, onnx.ModelProto], None], ...] = (
    *(_dim, _port, _content, _content, _storage, _attribute, _attribute, _wiring, _wiring, _nodes, _nodes),
    *(_version, _depth),
)


def operators() -> Sequence[str]:
    """Names of operators that are read, and of a few that are not."""
    from nnaq.frontends.onnx_handlers import HANDLERS

    return (*sorted(HANDLERS), "If", "Loop", "Scan", "SequenceAt", "NonZero", "")
