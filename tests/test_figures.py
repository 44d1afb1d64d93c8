"""Drawings: what they show stands where its numbers say, as text that can be read."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulate.lowered import layer, recurrent

from nnaq import figures
from nnaq.cost import op_cost
from nnaq.figures.roofline import dot, roofs, slopes
from nnaq.figures.svg import Drawing, Scale, short_name
from nnaq.simulate import simulate
from nnaq.targets import load_target

EDGE8 = load_target("edge8")
STEP = simulate(recurrent(), EDGE8, {"T": 5}, "none")
SVG = "{http://www.w3.org/2000/svg}"
PLAN = {"buffers": [{"name": "a", "offset": 0, "bytes": 64, "first": 0, "last": 1},
                    {"name": "b", "offset": 64, "bytes": 32, "first": 1, "last": 3}]}  # fmt: skip
ALL = {
    "sqnr": lambda: figures.sqnr_by_layer([("a <b> & c", 31.5), ("d", 12.5), ("e", None), ("f", -3.0)]),
    "cycles": lambda: figures.cycles_by_op({"lstm": 15000, "conv1d": 5000}),
    "arena": lambda: figures.arena_map(PLAN),
    "timeline": lambda: figures.timeline(STEP),
    "split": lambda: figures.cycle_split(STEP),
    "roofline": lambda: figures.roofline(STEP),
}


def shapes(svg: str, tag: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg).iter(SVG + tag))


@pytest.mark.parametrize("draw", ALL.values(), ids=ALL)
def test_every_shape_stands_inside_its_drawing(draw):
    root = ElementTree.fromstring(draw())
    width, height = (float(root.get(side)) for side in ("width", "height"))
    assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"
    assert root.get("aria-label")
    for rect in root.iter(SVG + "rect"):
        x, y, w, h = (float(rect.get(key)) for key in ("x", "y", "width", "height"))
        assert x >= 0 and y >= 0 and w >= 0 and h >= 0
        assert x + w <= width + 1 and y + h <= height + 1
    for text in root.iter(SVG + "text"):
        assert 0 <= float(text.get("x")) <= width and 0 <= float(text.get("y")) <= height


@pytest.mark.parametrize("draw", ALL.values(), ids=ALL)
def test_a_drawing_is_the_same_every_time_and_links_to_nothing(draw):
    assert draw() == draw()
    assert "href" not in draw() and "url(" not in draw() and "<script" not in draw()


def test_nothing_to_draw_is_no_drawing():
    assert figures.sqnr_by_layer([("a", None)]) == figures.cycles_by_op({}) == figures.arena_map({}) == ""
    nothing = replace(STEP, step=replace(STEP.step, commands=()), costs=())
    assert figures.timeline(nothing) == figures.cycle_split(nothing) == figures.roofline(nothing) == ""


def test_bars_are_as_long_as_their_numbers_and_worst_comes_first():
    svg = figures.sqnr_by_layer([("good", 30.0), ("bad", 15.0), ("none", None)])
    bad, good = shapes(svg, "rect")
    assert float(good.get("width")) == pytest.approx(2 * float(bad.get("width")), rel=1e-4)
    assert bad.get("fill") != good.get("fill")
    words = [t.text for t in shapes(svg, "text")]
    assert [w for w in words if w in ("good", "bad", "none")] == ["bad", "good"]
    many = figures.sqnr_by_layer([(f"layer {n}", float(n)) for n in range(100)][::-1])
    assert "layer 39<" in many and "layer 40<" not in many
    assert "75.0%" in ALL["cycles"]()


def test_a_box_of_the_arena_is_as_large_as_its_buffer():
    a, b = shapes(figures.arena_map(PLAN), "rect")
    assert (a.get("id"), b.get("id")) == ("buffer a", "buffer b")
    sizes = [(float(r.get("width")) + 1, float(r.get("height")) + 1) for r in (a, b)]
    assert sizes[1][0] == pytest.approx(1.5 * sizes[0][0], rel=1e-4)
    assert sizes[0][1] == pytest.approx(2 * sizes[1][1], rel=1e-4)
    assert float(b.get("y")) < float(a.get("y"))  # offsets grow upwards
    assert shapes(figures.arena_map(PLAN), "title")[0].text == "a: 64 bytes from 0"


def test_the_timeline_has_every_command_on_the_row_of_its_engine():
    svg = figures.timeline(STEP)
    boxes = shapes(svg, "rect")
    taken = [s for s in STEP.timing.spans if s.command.cycles]
    told = {
        f"{s.command.node} {s.command.part}".strip() + f": cycles {s.start:,} to {s.end:,}" for s in taken
    }
    assert {t.text for t in shapes(svg, "title")} == told
    assert len({box.get("y") for box in boxes}) == len(STEP.timing.busy)


def test_thin_commands_are_drawn_as_one():
    one = STEP.step.commands[0]
    crowd = replace(STEP.step, commands=tuple(replace(one, needs=(), cycles=1) for _ in range(5000)))
    svg = figures.timeline(replace(STEP, step=crowd))
    assert len(shapes(svg, "rect")) == 1
    assert "5000 commands" in svg


def test_the_parts_of_a_bar_make_up_its_node():
    svg = figures.cycle_split(STEP)
    drawn = [r for r in shapes(svg, "rect") if list(r)]
    first = drawn[0].get("y")
    whole = sum(float(r.get("width")) for r in drawn if r.get("y") == first)
    others = sum(float(r.get("width")) for r in drawn if r.get("y") != first)
    assert whole == pytest.approx(others, abs=0.1)  # these few nodes are all there are


@given(
    st.integers(1, 300), st.integers(1, 300), st.integers(1, 40), st.booleans(),
    st.sampled_from([1, 64]), st.sampled_from(["edge8", "ethos-u55-128", "ethos-u65-256"]),
)  # fmt: skip
def test_no_dot_is_above_its_roofs(inputs, outputs, rows, pinned, slower, name):
    own = load_target(name)
    target = replace(own, dram=replace(own.dram, bytes_per_cycle=own.dram.bytes_per_cycle / slower))
    graph = layer(rows, inputs, outputs)
    found = dot(op_cost(graph, graph.nodes[0], target, ["weight"] if pinned else []), target)
    assert found.per_cycle <= roofs(target)["array"] * (1 + 1e-9)
    assert found.per_cycle <= slopes(target)[found.port] * found.per_byte * (1 + 1e-9)


def test_every_operator_of_the_accelerator_is_a_dot():
    titles = [t.text.split(":")[0] for t in shapes(figures.roofline(STEP), "title")]
    assert titles == [c.name for c in STEP.costs if c.bound != "host" and c.cycles]


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_round_few_and_inside(low, size):
    scale = Scale(low, low + size, 0, 100)
    assert len(scale.ticks) <= 8
    assert all(-1e-3 <= scale(tick) <= 100 + 1e-3 for tick in scale.ticks)


def test_names_are_escaped_and_shortened_at_their_front():
    drawing = Drawing("a & b", 10)
    drawing.text(0, 5, "<script>")
    drawing.box(0, 0, 5, 5, "red", 'x "y" <z>', 'id "q"')
    svg = drawing.render()
    assert "<script>" not in svg
    assert shapes(svg, "rect")[0].get("id") == 'id "q"'
    assert shapes(svg, "title")[0].text == 'x "y" <z>'
    assert short_name("abcdef", 4) == "…def"
