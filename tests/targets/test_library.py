"""Shipped targets and files of one's own."""

import pickle
from fractions import Fraction
from importlib.resources import files

import pytest

from nnaq.errors import TargetError
from nnaq.ir.numerics import Numerics
from nnaq.targets import load_target, shipped


def test_edge8_is_what_its_file_says():
    target = load_target("edge8")
    assert (target.array.rows, target.array.columns, target.clock_hz) == (32, 32, 500_000_000)
    assert target.sram_bytes == 512 * 1024
    assert target.dram.bytes_per_cycle == 4
    assert target.host.operations_per_cycle == Fraction(2)
    assert target.numerics == Numerics("single", "half_even")
    assert target.array.dtypes == ("i4", "i8", "i16")


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_target_reads_shows_and_travels(name):
    target = load_target(name)
    assert target.name == name
    assert pickle.loads(pickle.dumps(target)) == target
    assert hash(target) == hash(load_target(name))
    assert f"{target.array.rows} x {target.array.columns} MACs" in target.show()
    assert target.source in target.show()


def test_a_file_of_ones_own_is_read_by_its_path(tmp_path):
    text = files("nnaq.targets").joinpath("edge8.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(text.replace('name = "edge8"', 'name = "mine"'))
    assert load_target(path).name == load_target(str(path)).name == "mine"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("egde8", "no target 'egde8'; did you mean 'edge8'?"),
        ("quantum", "no target 'quantum'; shipped targets: edge8"),
        ("mine.toml", "no target file 'mine.toml'"),
    ],
)
def test_an_unknown_target_names_its_neighbours(name, words):
    with pytest.raises(TargetError) as found:
        load_target(name)
    assert words in str(found.value)


def test_times_are_exact():
    target = load_target("edge8")
    assert [target.dram.cycles(n) for n in (0, 1, 4, 5)] == [0, 1, 1, 2]
    assert target.host.cycles(operations=3, crossing=0) == 2
    assert target.host.cycles(operations=3, crossing=1) == 500 + 2 + 1
    assert target.microseconds(500) == 1.0
