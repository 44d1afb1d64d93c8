"""Which palettes a target expands, and the sentence on those it does not."""

from dataclasses import replace

import numpy as np
import pytest

from nnaq.ir.build import Builder
from nnaq.ir.types import parse_type
from nnaq.targets import Decompression, at_rest, load_target, undecompressed

EDGE8, SUB8 = load_target("edge8"), load_target("edge8-sub8")
KIND = parse_type("i8[4,3] palette2@2+1(-1, 1 | -2, 2)")


def with_unit(**keys):
    return replace(SUB8, decompression=Decompression(**{"index_bits": (2,), "codewords_per_cycle": 1} | keys))


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (EDGE8, "target 'edge8' does not decompress indices"),
        (with_unit(index_bits=(1, 4)), "target 'edge8-sub8' expands indices of 1, 4 bits, not 2"),
        (with_unit(), "target 'edge8-sub8' expands no zero maps"),
        (
            with_unit(zero_map=True, max_tables=1),
            "target 'edge8-sub8' takes 1 tables for one constant, not 2",
        ),
        (with_unit(zero_map=True, max_tables=2), None),
        (SUB8, None),
    ],
)
def test_what_is_not_expanded_rests_as_plain_codes_and_is_told(target, reason):
    build = Builder("weights")
    build.constant("w", np.array([[0, 1, -1]] * 2 + [[2, 2, -2]] * 2, np.int8), KIND)
    build.constant("plain", np.zeros(3, np.int8), parse_type("i8[3]"))
    told = undecompressed(build.build(), target)
    assert told == ([] if reason is None else [f"'w' rests as plain 8-bit codes: {reason}"])
    assert at_rest(KIND, target) == (KIND if reason is None else replace(KIND, palette=None))
    assert at_rest(parse_type("i16[3]"), target) == parse_type("i16[3]")


def test_many_constants_are_one_sentence():
    build = Builder("weights")
    for number in range(5):
        build.constant(f"w{number}", np.full(2, 7, np.int8), parse_type("i8[2] palette1(-7, 7)"))
    (told,) = undecompressed(build.build(), EDGE8)
    assert told.startswith("'w0', 'w1', 'w2' and 2 more rest as plain 8-bit codes: target 'edge8' does not")
