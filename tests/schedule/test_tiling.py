"""Tiles: every weight once, within the room, in whole columns where that goes; and bytes at rest."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from schedule.step_graphs import EDGE8, FORMS, machines, networks, weight
from simulate.lowered import Lowered, layer, recurrent

from nnaq.cost import bind_shapes, resting_bytes
from nnaq.ir.types import parse_type
from nnaq.schedule import compile_step, plan_memory
from nnaq.schedule.rest import from_bytes, rest_bytes, to_bytes
from nnaq.schedule.tiling import is_layer, streamed, tiles
from nnaq.targets import load_target

SUB8 = load_target("edge8-sub8")


@given(networks(), machines(), st.sampled_from([0, 200, 2000, 10**6]))
def test_tiles_bring_every_entry_once(graph, target, room):
    for node in bind_shapes(graph).nodes:
        brought = streamed(graph, node, ())
        seen = {name: np.zeros(graph.types[name].shape, int) for name in brought}
        for tile in tiles(graph, node, target, brought, room):
            for piece in tile.pieces:
                seen[piece.constant][tuple(slice(*span) for span in piece.part)] += 1
        assert all((count == 1).all() for count in seen.values())


@given(networks(), machines(), st.sampled_from([600, 3000]))
def test_a_layer_keeps_to_its_room_and_sums_inputs_in_order(graph, target, room):
    for node in graph.nodes:
        if not is_layer(graph, node):
            continue
        found = tiles(graph, node, target, streamed(graph, node, ()), room)
        if graph.types[node.inputs[1]].palette is None and node.attrs.get("groups", 1) == 1:
            assert max(tile.bytes for tile in found) <= room
        ends = [0]
        for tile in found:
            assert tile.inputs[0] == (ends[-1] if tile.inputs[0] else 0)
            ends.append(tile.inputs[1])
        assert ends[-1] == max(ends)


def sizes_of(room: int) -> list[tuple]:
    graph = layer(inputs=128, outputs=512)
    node = bind_shapes(graph).nodes[0]
    found = tiles(graph, node, EDGE8, streamed(graph, node, ()), room)
    (n0, n1), (k0, k1) = found[0].outputs, found[0].inputs
    return len(found), n1 - n0, k1 - k0


def test_tiles_get_narrower_then_shallower_then_leave_columns_idle():
    """512 outputs of 128 inputs on 32 columns and rows: eight stretches, one column block, one row block."""
    assert sizes_of(10**6) == (8, 64, 128)
    assert sizes_of(6000) == (16, 32, 128)
    assert sizes_of(2500) == (32, 32, 64)
    assert sizes_of(1200) == (64, 32, 32)
    assert sizes_of(700) == (128, 16, 32)


def test_a_recurrence_that_is_streamed_in_tiles_brings_its_recurrent_weight_at_every_frame():
    graph = recurrent(features=40, units=64)
    short = replace(EDGE8, sram=replace(EDGE8.sram, bytes=1 << 13))
    moved = [
        sum(c.dram_bytes for c in compile_step(graph, short, {"T": frames}, "none").commands)
        for frames in (1, 5)
    ]
    assert moved[1] - moved[0] == 4 * (4 * 64 * 64)


def test_a_recurrence_that_goes_into_the_room_of_two_tiles_is_brought_once():
    graph = recurrent(features=40, units=64)
    moved = [
        sum(c.dram_bytes for c in compile_step(graph, EDGE8, {"T": frames}, "none").commands)
        for frames in (1, 5)
    ]
    assert moved[0] == moved[1]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("target", [EDGE8, SUB8], ids=["edge8", "edge8-sub8"])
def test_bytes_at_rest_are_as_many_as_the_cost_model_counts_and_come_back(form, target):
    build = Lowered("weights")
    name = weight(build, form, "w", 7, "5,3")
    kind = build.types[name]
    packed = to_bytes(build.constants[name], kind)
    assert packed.dtype == np.uint8
    assert len(packed) == rest_bytes(kind)
    np.testing.assert_array_equal(from_bytes(packed, kind), build.constants[name])
    if target is SUB8:
        assert rest_bytes(kind) == resting_bytes(kind, target)


@pytest.mark.parametrize("dtype", ["i4", "i8", "i16", "i32", "i48"])
def test_codes_of_every_width_come_back(dtype):
    kind = parse_type(f"{dtype}[3,5]<0.1, 0>")
    low = {"i4": -8, "i8": -128, "i16": -(2**15), "i32": -(2**31), "i48": -(2**47)}[dtype]
    codes = np.array([low, -1, 0, 1, -low - 1] * 3).reshape(3, 5)
    packed = to_bytes(codes, kind)
    assert len(packed) == resting_bytes(kind, EDGE8)
    np.testing.assert_array_equal(from_bytes(packed, kind), codes)


def test_a_layer_whose_constants_are_pinned_still_runs_in_stretches():
    plan = plan_memory(bind_shapes(layer(inputs=64, outputs=512)), EDGE8)
    assert plan.holds_everything
    assert len(plan.tiles["y"]) == 8
