"""The committed figures of conformance: complete, large enough, without a mismatch, and shown as they are."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from comparisons import GOLDEN, TABLE, Key, measure

ROOT = Path(__file__).parents[1]
RECORDS = json.loads((ROOT / "benchmarks" / "results" / "conformance.json").read_text())
INDEX = json.loads((GOLDEN / "index.json").read_text())
MANY, SOME = 1_000_000, 100_000
REQUIRED = {
    "tosa": (
        "rescale arithmetic_right_shift add_int8 sub_int8 mul_int8 add_int16 mul_int32 table_int8 "
        "table_int16 "
        "conv2d_int8 depthwise_conv2d_int8 transpose_conv2d_int8 matmul_int8 conv2d_int16x8 "
        "transpose_conv2d_int16x8 "
        "depthwise_conv2d_int16x8 fully_connected_int16x8 matmul_int16 max_pool2d_int8 avg_pool2d_int8 "
        "reduce_sum_int32 reduce_max_int8 reduce_min_int8 reduce_max_int16 reduce_min_int16 "
        "resize_nearest_int8 resize_bilinear_int8 pad_int8 concat_int8 slice_int8 gather_int8 reverse_int8 "
        "tile_int8 transpose_int8 abs_int32 maximum_int32 minimum_int32 clamp select equal_int32 "
        "greater_int32 "
        "greater_equal_int32 logical_and logical_or logical_xor logical_not lstm_int8 gru_int8 softmax_int8 "
        "attention_int8"
    ),
    "tflm": (
        "fully_connected_int8 fully_connected_int16x8 conv2d_int8 conv2d_int16x8 depthwise_conv2d_int8 "
        "depthwise_conv2d_int16x8 add_int8 sub_int8 mul_int8 batch_matmul_int8 batch_matmul_int16 "
        "average_pool_int8 logistic_int8 logistic_int16 tanh_int8 tanh_int16 softmax_int8 softmax_int16 "
        "lstm_8x8_16 lstm_16x8_16"
    ),
    "ort": "qlinear_matmul qlinear_conv matmul_integer conv_integer qlinear_add",
}
TIED = (
    "rescale arithmetic_right_shift add_int8 sub_int8 mul_int8 add_int16 conv2d_int8 depthwise_conv2d_int8 "
    "transpose_conv2d_int8 matmul_int8 conv2d_int16x8 depthwise_conv2d_int16x8 fully_connected_int16x8 "
    "matmul_int16 avg_pool2d_int8"
).split()


def key_of(record: dict) -> Key:
    return Key(record["oracle"], record["op"], record["mode"])


def test_every_comparison_has_one_record():
    assert sorted(key_of(record) for record in RECORDS) == sorted(TABLE)


def test_every_golden_file_is_compared_in_all_its_modes():
    promised = {
        Key(entry["oracle"], entry["op"], mode)
        for entry in INDEX.values()
        for mode in entry["mode"].split(",")
    }
    assert promised <= set(TABLE)
    assert {f"{key.file}.npz" for key in TABLE} == set(INDEX)


@pytest.mark.parametrize("oracle", REQUIRED)
def test_nothing_required_is_missing(oracle):
    assert set(REQUIRED[oracle].split()) <= {record["op"] for record in RECORDS if record["oracle"] == oracle}


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: str(key_of(record)))
def test_no_value_differs(record):
    golden = INDEX[f"{key_of(record).file}.npz"]
    assert record["mismatches"] == 0
    assert record["values"] >= (MANY if record["oracle"] == "tosa" else SOME)
    assert record["versions"] == golden["versions"]
    assert record["seed"] != golden["seed"]  # these values come on top of the golden ones


@pytest.mark.parametrize("op", TIED)
def test_ties_of_both_signs_were_among_the_values(op):
    found = [record["ties"] for record in RECORDS if record["oracle"] == "tosa" and record["op"] == op]
    assert found
    assert np.min(found) >= 100


def test_a_wrong_value_is_counted(monkeypatch):
    key = Key("tosa", "table_int8", "exact")
    honest = TABLE[key]

    def wrong(*given):
        for number, (ours, theirs) in enumerate(honest(*given)):
            yield (np.where(np.arange(ours.size) == 3, ours ^ 1, ours) if number == 1 else ours), theirs

    monkeypatch.setitem(TABLE, key, wrong)
    found = measure(key)
    assert found.mismatches == 1
    assert found.first.startswith("pair 1, value 3: ")


@pytest.mark.parametrize("script", ["conformance.py", "render.py"])
def test_pages_show_the_committed_results(script):
    command = [sys.executable, str(ROOT / "benchmarks" / script), "--check"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
