"""Shipped targets and files of one's own."""

import pickle
from dataclasses import replace
from fractions import Fraction
from importlib.resources import files

import pytest

from nnaq.errors import TargetError
from nnaq.ir.numerics import Numerics
from nnaq.targets import Decompression, load_target, shipped


def test_edge8_is_what_its_file_says():
    target = load_target("edge8")
    assert (target.array.rows, target.array.columns, target.clock_hz) == (32, 32, 500_000_000)
    assert target.sram_bytes == 512 * 1024
    assert target.dram.bytes_per_cycle == 4
    assert target.host.operations_per_cycle == Fraction(2)
    assert target.numerics == Numerics("single", "half_even")
    assert target.array.dtypes == ("i4", "i8", "i16")


def test_edge8_sub8_is_edge8_with_a_decompression_unit():
    plain, sub8 = load_target("edge8"), load_target("edge8-sub8")
    assert sub8.decompression == Decompression((1, 2, 3, 4, 5, 6), 128, zero_map=True)
    assert sub8.energy.codeword > 0
    words = {name: getattr(plain, name) for name in ("name", "description", "source")}
    same = replace(sub8, **words, decompression=None, energy=replace(sub8.energy, codeword=0.0))
    assert same == plain
    assert "modelled after public accelerator patents" in sub8.source
    assert "rest as indices of 1, 2, 3, 4, 5, 6 bits, zero maps; 128 codes per cycle" in sub8.show()
    assert "rest as plain i8 codes" in plain.show()
    assert "dram byte 160" in plain.show()
    assert "energy" not in replace(plain, energy=None).show()


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_target_reads_shows_and_travels(name):
    target = load_target(name)
    assert target.name == name
    assert pickle.loads(pickle.dumps(target)) == target
    assert hash(target) == hash(load_target(name))
    array = f"{target.array.rows} x {target.array.columns} MACs"
    assert (array in target.show()) == target.has_accelerator
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


@pytest.mark.parametrize("name", ["ethos-u55-128", "ethos-u65-256"])
def test_a_peer_s_machine_makes_as_many_macs_as_its_name_says(name):
    target = load_target(name)
    assert target.array.macs_per_cycle == int(name.split("-")[-1])
    assert "ethos-u-vela 5.2.0" in target.source
    assert "Assumptions" in target.source
    assert "entropy code; 8 codes per cycle" in target.show()


def test_the_host_is_a_machine_without_an_accelerator():
    host = load_target("host")
    assert not host.has_accelerator
    assert "none: all run on the host" in host.show()
    assert "measured" in host.source
    assert load_target("edge8").has_accelerator


def test_a_host_s_own_rates_count_where_they_are_given():
    plain = load_target("edge8").host
    own = replace(
        plain,
        macs_per_cycle=Fraction(8),
        lookups_per_cycle=Fraction(1, 2),
        memory_bytes_per_cycle=Fraction(4),
        node_cycles=100,
        product_cycles=7,
        element_passes=(("add", Fraction(3)),),
    )
    products = ((80, 8), (80, 400))
    assert plain.cycles(20, 0, 4, products, "add") == (20 + 4 + 160) / 2
    assert own.cycles(20, 0, 4, products, "add") == 100 + 20 * 3 / 2 + 4 * 2 + 2 * 7 + 80 / 8 + 400 / 4
    assert own.cycles(20, 0, 0, (), "mul") == 100 + 20 / 2
    assert own.cycles(0, 10) == 100 + own.crossing_cycles(10) == 100 + 500 + 5
