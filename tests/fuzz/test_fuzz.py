"""A few hostile files of every kind: read, or refused with a sentence. `make fuzz` tries thousands."""

import pytest
from fuzz.cage import run_cases
from fuzz.formats import FORMATS

CASES = 10
CHEAP = 30
SLOW = {"onnx-nodes"}  # the collection of its models alone takes longer than all others together
COSTLY = {"forgery", "tflite", "artifact"}


@pytest.mark.parametrize("format", [name for name in FORMATS if name not in SLOW])
def test_hostile_files_are_read_or_refused(format):
    number = CASES if format in COSTLY else CHEAP
    ended = list(run_cases([(format, n) for n in range(number)], seed=0))
    assert [found for found in ended if found.is_finding] == []
    assert "refused" in {found.outcome for found in ended}
