"""A target file's mistakes: all at once, each with its line, key, finding and remedy."""

from fractions import Fraction
from importlib.resources import files

import pytest

from nnaq.errors import TargetError
from nnaq.ir.numerics import Numerics
from nnaq.targets import load_target
from nnaq.targets.reader import read_target
from nnaq.targets.toml_lines import key_lines, line_of

EDGE8 = files("nnaq.targets").joinpath("edge8.toml").read_text()

BAD = """\
name = 3
description = "wrong in every line"
source = "here"
clock_hz = 5e8
vector_lane = 32
lut_lanes = 0

[array]
rows = "32"
columns = true
dataflow = "outputs"
double_buffered = 1
cycles_per_mac = { i8 = 0, i7 = 2 }

[sram]
bytes_per_cycle = 64
bytes_per_second = 64

[host]
operations_per_second = -1
bytes_per_second = inf
sync_cycles = 500

[numerics]
rounding = "half_even"

[ops]
widths = ["i8", "f32"]
exclude = ["expp"]
"""


def complaint(text: str) -> str:
    with pytest.raises(TargetError) as found:
        read_target(text, "own.toml")
    return str(found.value)


def test_every_mistake_is_told_in_the_order_of_the_lines():
    head, *lines = complaint(BAD).splitlines()
    assert head == "target file own.toml has 19 mistakes:"
    assert [line.strip().split(": ")[0] for line in lines] == [
        "line 1, dram",
        "line 1, name",
        "line 1, vector_lanes",
        "line 4, clock_hz",
        "line 5, vector_lane",
        "line 6, lut_lanes",
        "line 9, array.rows",
        "line 10, array.columns",
        "line 11, array.dataflow",
        "line 12, array.double_buffered",
        "line 13, array.cycles_per_mac.i7",
        "line 13, array.cycles_per_mac.i8",
        "line 15, sram",
        "line 15, sram.bytes",
        "line 20, host.operations_per_second",
        "line 21, host.bytes_per_second",
        "line 25, numerics.rounding",
        "line 28, ops.widths",
        "line 29, ops.exclude",
    ]


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ("rows = 32", 'rows = "32"', "array.rows: found '32'; write a whole number of rows, at least 1"),
        ("rows = 32", "row = 32", "array.row: no such key; did you mean 'rows'?"),
        ("sync_cycles = 500", "", "line 23, host.sync_cycles: it is missing; write a whole number of cycles"),
        ("bytes_per_cycle = 64", "", "sram: found neither; write either bytes_per_cycle or bytes_per_second"),
        ('"single"', '"double_m16"', 'numerics.rounding: found \'double_m16\'; write "single", "double"'),
        (
            "exclude = []",
            'exclude = ["sigmoit"]',
            "ops.exclude: no operator 'sigmoit'; did you mean 'sigmoid'?",
        ),
        ("[dram]", "[dramm]", "line 20, dramm: no such key; did you mean 'dram'?"),
        ("rows = 32", "rows = = 32", "own.toml is not TOML"),
    ],
)
def test_one_mistake(right, wrong, words):
    assert EDGE8.count(right) >= 1
    assert words in complaint(EDGE8.replace(right, wrong, 1))


def test_a_rate_per_second_is_exact():
    text = EDGE8.replace("bytes_per_second = 2_000_000_000", "bytes_per_second = 1_000_000_001")
    assert read_target(text, "own.toml").dram.bytes_per_cycle == Fraction(1_000_000_001, 500_000_000)
    assert read_target(text, "own.toml").dram.cycles(2_000_000_002) == 1_000_000_000


def test_numerics_default_to_the_contract_s():
    text = EDGE8[: EDGE8.index("[numerics]")] + EDGE8[EDGE8.index("[ops]") :]
    assert read_target(text, "own.toml").numerics == read_target(EDGE8, "own.toml").numerics


def test_narrow_accumulators_and_full_tables_are_a_choice():
    keys = (
        'accumulator_bits = 24\noverflow = "wrap"\narray_depth = 16\nlut_entries = 65536\ninternal_bits = 8\n'
    )
    found = read_target(EDGE8.replace("[numerics]\n", f"[numerics]\n{keys}"), "own.toml").numerics
    assert found == Numerics("single", "half_even", 24, "wrap", 16, 65536, 8)
    assert found.is_narrow
    assert not read_target(EDGE8, "own.toml").numerics.is_narrow


def test_curves_of_tflite_come_with_full_tables():
    assert load_target("tflite-micro").numerics == Numerics(
        "double", "half_away", 32, "saturate", 32, 65536, 16, "tflite"
    )
    with pytest.raises(TargetError, match='curves = "tflite" are tables of lut_entries = 65536; write both'):
        read_target(EDGE8.replace("[numerics]\n", '[numerics]\ncurves = "tflite"\n'), "own.toml")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("accumulator_bits = 15", "a whole number from 16 to 32"),
        ("accumulator_bits = 33", "a whole number from 16 to 32"),
        ("accumulator_bits = 24.5", "a whole number from 16 to 32"),
        ('overflow = "trap"', 'write "saturate" or "wrap"'),
        ("array_depth = 0", "a whole number of products, at least 1"),
        ("lut_entries = 512", "513 or 65536"),
        ("internal_bits = 5", "a whole number from 6 to 16"),
        ("internal_bits = 17", "a whole number from 6 to 16"),
        ("internal_bits = 8.0", "a whole number from 6 to 16"),
        ('curves = "exact"', 'write "rounded" or "tflite"'),
    ],
)
def test_other_choices_are_refused(line, words):
    said = complaint(EDGE8.replace("[numerics]\n", f"[numerics]\n{line}\n"))
    assert f"numerics.{line.split()[0]}: found" in said
    assert words in said


SUB8 = files("nnaq.targets").joinpath("edge8-sub8.toml").read_text()


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ("[1, 2, 3, 4, 5, 6]", "[]", "decompression.index_bits: found []; write a list of index widths"),
        ("[1, 2, 3, 4, 5, 6]", "[0, 9]", "decompression.index_bits: found 0; write a list of index widths"),
        ("[1, 2, 3, 4, 5, 6]", "4", "decompression.index_bits: found 4; write a list of index widths"),
        ("index_bits", "index_bit", "decompression.index_bit: no such key; did you mean 'index_bits'?"),
        ("zero_map = true", "zero_map = 1", "decompression.zero_map: found 1; write true if zero maps are"),
        ("codewords_per_cycle = 128", "", "decompression.codewords_per_cycle: it is missing; write a whole"),
        ("zero_map", "max_tables = 0\nzero_map", "decompression.max_tables: found 0; write a whole number"),
        ("[decompression]", "[decompresion]", "decompresion: no such key; did you mean 'decompression'?"),
        ("mac = 0.3", "mac = -1", "energy.mac: found -1; write picojoules of an i8 product"),
        ("mac = 0.3", "mac = inf", "energy.mac: found inf; write picojoules of an i8 product"),
        ("sram_byte", "sram_bytes", "energy.sram_bytes: no such key; did you mean 'sram_byte'?"),
        ("lookup = 6", "", "energy.lookup: it is missing; write picojoules of a look-up"),
    ],
)
def test_mistakes_of_the_tables_that_may_be_left_out(right, wrong, words):
    assert SUB8.count(right) >= 1
    assert words in complaint(SUB8.replace(right, wrong, 1))


def test_the_tables_may_be_left_out():
    text = SUB8[: SUB8.index("[decompression]")]
    read = read_target(text, "own.toml")
    assert (read.decompression, read.energy) == (None, None)


def test_index_widths_come_in_order_and_once():
    text = SUB8.replace("[1, 2, 3, 4, 5, 6]", "[4, 2, 4]\nmax_tables = 8")
    found = read_target(text, "own.toml").decompression
    assert (found.index_bits, found.max_tables) == ((2, 4), 8)


def test_lines_of_keys():
    lines = key_lines('top = 1\n# [comment]\n[ a . "b c" ]\nx.y = { z = 1 } # note\n[[list]]\nk = "[not]"\n')
    assert lines == {
        ("top",): 1,
        ("a", "b c"): 3,
        ("a", "b c", "x", "y"): 4,
        ("list", "0"): 5,
        ("list", "0", "k"): 6,
    }
    assert line_of(lines, ("a", "b c", "x", "y", "z")) == 4
    assert line_of(lines, ("nowhere",)) == 1


def test_machines_have_more_than_they_must_say():
    found = read_target(EDGE8, "own.toml")
    assert (found.array.positions, found.array.cycles_per_step, found.array.weights_per_cycle) == (1, 1, None)
    assert (found.sram.banks, found.sram.latency_cycles, found.sram.burst_bytes) == (1, 0, 1)
    assert (found.dma.channels, found.dma.start_cycles) == (1, 0)
    text = EDGE8.replace(
        "rows = 32", "rows = 32\npositions = 2\ncycles_per_step = 4\nweights_per_cycle = 8", 1
    )
    text = text.replace("[sram]", "[dma]\nchannels = 2\nstart_cycles = 9\n\n[sram]\nbanks = 4", 1)
    text = text.replace("[dram]", "[dram]\nlatency_cycles = 500\nburst_bytes = 128", 1)
    found = read_target(text, "own.toml")
    assert (found.array.positions, found.array.cycles_per_step, found.array.weights_per_cycle) == (2, 4, 8)
    assert found.array.macs_per_cycle == 512
    assert (found.sram.banks, found.sram.peak_bytes_per_cycle) == (4, 256)
    assert (found.dram.latency_cycles, found.dram.burst_bytes) == (500, 128)
    assert (found.dma.channels, found.dma.start_cycles) == (2, 9)


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        (
            "[sram]",
            "[sram]\nbanks = 3",
            "line 17, sram.banks: found 3 with bytes = 524288; write a divisor of",
        ),
        (
            "[sram]",
            "[sram]\nburst_bytes = 600_000",
            "sram.burst_bytes: found 600000 with bytes = 524288; write no",
        ),
        (
            "rows = 32",
            "rows = 32\ndepthwise_rows = 33",
            "array.depthwise_rows: found 33 with rows = 32; write no more than rows",
        ),
        ("rows = 32", "rows = 32\npositions = 0", "array.positions: found 0; write a whole number of rows"),
        (
            "[dram]",
            "[dram]\nlatency_cycles = -1",
            "dram.latency_cycles: found -1; write a whole number of cycles",
        ),
        ("[dram]", "[dma]\nchannel = 1\n[dram]", "dma.channel: no such key; did you mean 'channels'?"),
        (
            "sync_cycles",
            "node_cycles = 0.5\nsync_cycles",
            "host.node_cycles: found 0.5; write a whole number",
        ),
    ],
)
def test_mistakes_of_what_may_be_left_out(right, wrong, words):
    assert EDGE8.count(right) >= 1
    assert words in complaint(EDGE8.replace(right, wrong, 1))


def test_mistakes_of_two_keys_come_with_all_others():
    text = EDGE8.replace("rows = 32", 'rows = 32\ndepthwise_rows = 64\npositions = "2"', 1)
    assert complaint(text.replace("[sram]", "[sram]\nbanks = 7", 1)).count("\n") == 3


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        (
            "index_bits = [1, 2, 3, 4, 5, 6]\n",
            "",
            "decompression.index_bits: it is missing; write a list of index",
        ),
        ("zero_map = true", "zero_run = 1", "decompression.zero_run: found 1; write true if zeros may rest"),
        ("zero_map = true", "entropy = 2", "decompression.entropy: found 2; write true if weights rest"),
        (
            "[sram]",
            "[element_passes]\nadd = 0\n[sram]",
            "element_passes.add: found 0; write a table of operators",
        ),
        ("[sram]", "[element_passes]\nadded = 2\n[sram]", "no operator 'added'; did you mean 'add'?"),
        ("[dram]", "[host.element_passes]\nmull = 2\n[dram]", "no operator 'mull'; did you mean 'mul'?"),
        ("sync_cycles", "macs_per_second = 0\nsync_cycles", "host.macs_per_second: found 0; write MACs per"),
    ],
)
def test_mistakes_of_what_a_machine_may_have_besides(right, wrong, words):
    assert SUB8.count(right) >= 1
    assert words in complaint(SUB8.replace(right, wrong, 1))


def test_all_operators_may_be_excluded_and_weights_be_coded():
    text = SUB8.replace("exclude = []", 'exclude = ["*"]').replace(
        "index_bits = [1, 2, 3, 4, 5, 6]", "entropy = true"
    )
    found = read_target(text, "own.toml")
    assert not found.has_accelerator
    assert (found.decompression.index_bits, found.decompression.entropy) == ((), True)
    assert (
        read_target(SUB8.replace("[sram]", "[element_passes]\nadd = 3\n[sram]"), "own.toml").vector_cycles(
            "add", 32
        )
        == 3
    )
