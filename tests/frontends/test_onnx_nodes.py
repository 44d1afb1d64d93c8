"""The ONNX project's conformance cases (onnx.backend.test.case.node), through the importer.

A case is claimed if all its operators have a handler (HANDLERS; the bodies of If, Loop and Scan
count) and all its inputs and outputs are tensors of float32, int32, int64 or bool: float16,
bfloat16, double, texts, sequences and codes of 8 and 16 bits are other dtypes than nnaq's reals.
A claimed case passes if the model is imported with the shapes of its inputs and the graph, run by
the operators' real meaning, gives the expected results within the case's own tolerance.

Many cases hand weights and sizes over as inputs, which nnaq needs as constants. The list of passes
says how many inputs had to become constants: `free` none, `sizes` whole numbers and flags,
`weights` all but the first of float32, `data` all but the first, `constant` all (only where they
are nothing but sizes). `python tests/frontends/onnx_nodes.py` writes the list anew.
"""

import numpy as np
import pytest
from frontends.onnx_nodes import LIST, Case, claimed, modes, outcome, with_constants

from nnaq import pipeline
from nnaq.errors import NnaqError
from nnaq.frontends.onnx import load_model
from nnaq.frontends.onnx_handlers import HANDLERS
from nnaq.frontends.onnx_importer import operator_of
from nnaq.frontends.ports import ImportOptions
from nnaq.interpret import run
from nnaq.quantize.calibrate import calibrate
from nnaq.targets import load_target

# Operators without a claimed case that passes: a guard behind softmax, double only, codes of 8 bits.
WITHOUT_CASE = {
    "IsNaN",
    "Einsum",
    "ConvInteger",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "MatMulInteger",
    "QuantizeLinear",
}


@pytest.fixture(scope="module")
def expected() -> dict[str, str]:
    """Mode by case name."""
    return dict(line.split()[::-1] for line in LIST.read_text("utf-8").splitlines())


@pytest.fixture(scope="module")
def outcomes(expected) -> dict[str, tuple[str, str]]:
    """Mode and complaint of every claimed case."""
    return {case.name: outcome(case, expected.get(case.name, "")) for case in claimed()}


def test_what_passed_still_passes(expected, outcomes):
    lost = {
        name: outcomes.get(name, ("gone", ""))
        for name, mode in expected.items()
        if outcomes.get(name, ("gone", ""))[0] != mode
    }
    assert not lost


def test_the_list_leaves_out_no_pass(expected, outcomes):
    assert not [name for name, (mode, _) in outcomes.items() if mode != "fails" and name not in expected]


def test_at_least_nineteen_in_twenty_claimed_cases_pass(outcomes):
    failed = [name for name, (mode, _) in outcomes.items() if mode == "fails"]
    assert len(outcomes) > 900
    assert len(failed) <= 0.05 * len(outcomes), failed


def test_most_passes_leave_their_data_open(outcomes):
    modes = [mode for mode, _ in outcomes.values()]
    assert modes.count("free") > len(modes) / 2
    assert modes.count("constant") < len(modes) / 50


def test_every_operator_that_is_read_has_a_case(outcomes):
    passed = {case.name: case for case in claimed() if outcomes[case.name][0] != "fails"}
    seen = {operator_of(node) for case in passed.values() for node in case.model.graph.node}
    own = {op for op in HANDLERS if "::" not in op}  # other domains have no cases there
    assert own - seen == WITHOUT_CASE


def first_cases(expected) -> dict[str, Case]:
    """One passing case of a single node for each operator; a reduction of nothing is not finite."""
    found: dict[str, Case] = {}
    for case in claimed():
        is_empty = case.name.endswith("empty_set")
        if case.name in expected and len(case.model.graph.node) == 1 and not is_empty:
            found.setdefault(operator_of(case.model.graph.node[0]), case)
    return found


def test_every_operator_is_lowered(expected):
    """The second half of the road, calibrated on the case's own inputs."""
    cases = first_cases(expected)
    assert len(cases) > 90
    assert [op for op, case in cases.items() if not is_lowered(case, expected[case.name])] == []


def is_lowered(case: Case, mode: str) -> bool:
    """Whether the integer graph of a case runs; False where it is refused as a user's error."""
    names = dict(modes(case))[mode]
    inputs = {name: array for name, array in case.inputs.items() if name not in names}
    shapes = {name: array.shape for name, array in inputs.items()}
    graph = load_model(with_constants(case, names), case.name, ImportOptions(shapes=shapes)).graph
    given = {p.name: np.asarray(a, np.float32) for p, a in zip(graph.inputs, inputs.values(), strict=False)}
    try:
        real = pipeline.simplify(graph)
        crossing = pipeline.cross(real, calibrate(real, [given]), pipeline.Options(load_target("edge8")))
    except NnaqError:
        return False
    run(crossing.integer, given)
    return True
