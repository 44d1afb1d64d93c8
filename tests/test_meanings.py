"""What every operator owes: one meaning in NumPy and torch, a slope, counts, forms, a form in the file.

An operator without a case here fails `test_every_operator_has_a_case`: add one to `ISLANDS`
(tests/export/test_bodies_of_islands.py), or below where the operator is elementwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from export.test_bodies_of_islands import CASES as ISLANDS
from export.test_islands_of_functions import ATTRS, FLAGS, SHAPE
from hypothesis import given
from hypothesis import strategies as st

from nnaq import pipeline
from nnaq.export.bodies import BODIES
from nnaq.export.bodies_real import REAL_BODIES
from nnaq.export.bodies_real_functions import BODIES as FUNCTIONS
from nnaq.interpret import run
from nnaq.ir.build import Builder
from nnaq.ir.op import Attr, Op, Signature, lookup, table
from nnaq.ir.types import DTYPES, TensorType
from nnaq.ir.verify import is_real, verify
from nnaq.quantize.calibrate import calibrate
from nnaq.targets import load_target

OWN = {name: op for name, op in table().items() if op.body is None}  # plugins bring a body of their own
GRID: Mapping[str, Attr] = {
    "dtype": "i8",
    "scale": (0.1,),
    "zero_point": 3,
    "axis": -1,
    "rounding": "half_even",
}
BOUNDARY = {"quantize": {}, "dequantize": {}, "rescale": {}, "fake_quantize": GRID}  # never on the host
COMPARISONS = {"equal", "less", "less_or_equal", "greater", "greater_or_equal"}
# Their results are steps: a gradient of 0, or none at all.
STEPS = {*COMPARISONS, *FLAGS, "logical_not", "one_hot", "arange", "fake_quantize"}
STEPS |= {"sign", "floor", "ceil", "round", "floor_divide"}
# Operands that have a value above 0 only, and those that have none at 0.
POSITIVE = {"log", "sqrt", "rsqrt", "power"}
NOT_ZERO = {("reciprocal", 0), ("div", 1)}


@dataclass(frozen=True)
class Case:
    """An operator with the shapes of its operands and its attributes."""

    op: Op
    shapes: tuple[tuple[int, ...], ...]
    attrs: Mapping[str, Attr]

    def whole(self, position: int) -> str | None:
        """What kind of whole numbers stand at a position: `whole`, `flag`, or None for reals."""
        demand = self.op.demands.get(position)
        return demand if demand in ("whole", "flag") else None

    def arrays(self, seed: int) -> list[np.ndarray]:
        """Operands off every bend: reals, with small whole numbers and flags where they belong."""
        random = np.random.default_rng(seed)
        made = [random.normal(0, 1.5, shape) for shape in self.shapes]
        for i, array in enumerate(made):
            if self.whole(i):
                made[i] = (
                    random.integers(1 if i else 0, 2 if self.whole(i) == "flag" else 3, array.shape) * 1.0
                )
            elif self.op.name in POSITIVE or (self.op.name, i) in NOT_ZERO:
                made[i] = np.abs(array) + 0.25
        return made

    def results(self, arrays, dtype):
        """Results in torch, the real operands and the results that have a slope."""
        tensors = [torch.tensor(a, dtype=dtype) for a in arrays]
        for i, tensor in enumerate(tensors):
            tensor.requires_grad_(self.whole(i) is None)
        made = self.op.real(torch, self.attrs, *tensors)
        return made, [t for t in tensors if t.requires_grad], [r for r in made if r.requires_grad]

    def __str__(self) -> str:
        return self.op.name


def cases() -> list[Case]:
    """Every operator's: those of the islands, and the elementwise ones."""
    found = [(op, (*inputs, *constants), attrs) for op, inputs, constants, attrs in ISLANDS]
    found += [(op, (SHAPE,), attrs) for op, attrs in BOUNDARY.items()]
    for op in FUNCTIONS:
        shapes = (SHAPE, (1, SHAPE[1]), SHAPE)[: len(lookup(op).operands)]
        found += [(op, shapes, attrs) for attrs in ATTRS.get(op, [{}])]
    return [Case(lookup(op), tuple(shapes), attrs) for op, shapes, attrs in found]


CASES = cases()
each = pytest.mark.parametrize("case", CASES, ids=str)


def test_every_operator_has_a_case():
    assert {case.op.name for case in CASES} == set(OWN)


@each
def test_numpy_and_torch_mean_the_same_in_float32(case):
    arrays = [array.astype(np.float32) for array in case.arrays(0)]
    expected = case.op.real(np, case.attrs, *arrays)
    found, _, _ = case.results(arrays, torch.float32)
    types = tuple(TensorType("f32", array.shape) for array in arrays)
    assert tuple(array.shape for array in expected) == case.op.infer(types, case.attrs)
    for one, other in zip(expected, found, strict=True):
        assert one.dtype == np.float32
        assert other.dtype == torch.float32
        assert np.isfinite(one).all()
        largest = float(np.abs(one).max(initial=0))
        np.testing.assert_allclose(other.detach().numpy(), one, rtol=1e-5, atol=2e-6 * largest)


@each
def test_gradients_are_numerical_differences(case):
    """In float64, along random directions; steps have a gradient of 0."""
    arrays = case.arrays(1)
    _, operands, sloped = case.results(arrays, torch.float64)
    if case.op.name in STEPS:
        found = (
            torch.autograd.grad(sloped, operands, list(map(torch.ones_like, sloped)), allow_unused=True)
            if sloped
            else []
        )
        assert all(g is None or not g.any() for g in found)
        return
    assert sloped

    def call(*reals: torch.Tensor) -> tuple[torch.Tensor, ...]:
        values = iter(reals)
        kinds = [torch.tensor(a) if case.whole(i) else next(values) for i, a in enumerate(arrays)]
        return tuple(r for r in case.op.real(torch, case.attrs, *kinds) if r.requires_grad)

    assert torch.autograd.gradcheck(call, operands, eps=1e-6, atol=1e-5, rtol=1e-4, fast_mode=True)


@each
@pytest.mark.parametrize("value", [0.0, -1.0, 1.0, None], ids=["zeros", "below", "above", "whole numbers"])
def test_gradients_stay_finite_at_bends_and_where_there_is_no_value(case, value):
    """All ties, fully masked rows, rows of zeros, roots and quotients of 0, logarithms of -1."""
    arrays = case.arrays(2)
    random = np.random.default_rng(3)
    for i, array in enumerate(arrays):
        low = 0 if case.whole(i) else -2
        entries = random.integers(low, 3 + low, array.shape) if value is None else value
        arrays[i] = np.full(
            array.shape, max(value or 0.0, 0.0) if case.whole(i) and value is not None else entries
        )
    _, operands, sloped = case.results(arrays, torch.float32)
    if sloped:
        upstream = [torch.ones_like(result) for result in sloped]
        for gradient in torch.autograd.grad(sloped, operands, upstream, allow_unused=True):
            assert gradient is None or gradient.isfinite().all()


@given(st.sampled_from(["softmax", "l2_normalize", "layer_norm", "rms_norm", "sqrt"]))
def test_rows_without_anything_are_zeros(name):
    attrs = {"axis": -1, "epsilon": 0.0} if "norm" in name else {}
    operands = [np.zeros((2, 3), np.float32)] * (2 if name == "softmax" else 1)
    for xp, arrays in ((np, operands), (torch, [torch.tensor(a) for a in operands])):
        (found,) = lookup(name).real(xp, attrs, *arrays)
        assert not np.asarray(found).any()


def crossed(case):
    """The integer graph of one node, and the arrays of its inputs."""
    build, arrays = Builder("g"), [array.astype(np.float32) for array in case.arrays(4)]
    names = []
    for i, array in enumerate(arrays):
        constant = i in case.op.weights or i in case.op.reals
        kind = TensorType("f32", array.shape)
        names.append(build.constant(f"w{i}", array) if constant else build.input(f"x{i}", kind))
    for name in build.node(case.op.name, names, case.attrs, name="node"):
        build.output(name)
    real = verify(build.build())
    feeds = {name: array for name, array in zip(names, arrays, strict=True) if name.startswith("x")}
    options = pipeline.Options(load_target("edge8"))
    return pipeline.cross(real, calibrate(real, [feeds]), options).integer, feeds


@each
def test_work_is_counted_in_both_forms(case):
    arrays = case.arrays(5)
    types = tuple(TensorType("f32", array.shape) for array in arrays)
    outputs = tuple(TensorType("f32", shape) for shape in case.op.infer(types, case.attrs))
    signatures = [Signature(types, outputs, case.attrs)]
    if case.op.name not in BOUNDARY:
        integer, feeds = crossed(case)
        found = [node for node in integer.nodes if node.op == case.op.name]
        signatures += [integer.signature(node) for node in found]
        assert case.op.is_host_only or [is_real(integer, node) for node in found] == [False]
        fast, slow = (run(integer, feeds, mode=mode).outputs for mode in ("fast", "reference"))
        assert all(np.array_equal(fast[name], slow[name]) for name in fast)
    for signature in signatures:
        work = case.op.work(signature)
        counts = [work.macs, work.elementwise, work.lookups]
        assert all(isinstance(count, int) and count >= 0 for count in counts)
        assert any(counts) or case.op.moves


@pytest.mark.parametrize("op", OWN.values(), ids=lambda op: op.name)
def test_words_forms_and_bodies(op):
    assert op.doc.strip()
    for form in op.forms:
        left, arrow, right = form.partition(" -> ")
        assert arrow
        assert set(left.split()) | set(right.split()) <= {*DTYPES, "_"}
        assert len(left.split()) >= sum(not name.endswith("?") for name in op.operands)
    assert len(set(op.forms)) == len(op.forms)
    assert (op.name in BODIES) == bool(op.forms)
    assert (op.name in REAL_BODIES) == (op.name not in BOUNDARY)
