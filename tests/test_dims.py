"""Arithmetic on open sizes: it commutes with binding, and equal sizes print equally."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nnaq.errors import GraphError
from nnaq.ir import dims
from nnaq.ir.types import TensorType, parse_type

NAMES = ("K", "S", "T")
bindings = st.fixed_dictionaries({name: st.integers(0, 12) for name in NAMES})


def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    joined = st.builds("({}{}{})".format, inner, st.sampled_from("+-*"), inner)
    return joined | st.builds("({}//{})".format, inner, st.integers(1, 6))


sums = st.lists(st.sampled_from((*NAMES, "2*T", "-S", "K*T", "5")), min_size=1, max_size=4).map("+".join)
texts = st.recursive(st.sampled_from(NAMES) | st.integers(0, 9).map(str), grown, max_leaves=6)


@given(texts, bindings)
def test_the_canonical_form_has_the_same_size_under_every_binding(text, binding):
    found = dims.canonical(text)
    assert dims.evaluate(found, binding) == dims.evaluate(text, binding)
    assert dims.canonical(found) == found


@given(texts, texts, texts, st.integers(1, 6))
def test_laws_of_arithmetic_print_equally(a, b, c, n):
    add, multiply, subtract, floor_divide = dims.add, dims.multiply, dims.subtract, dims.floor_divide
    assert add(a, b) == add(b, a)
    assert add(add(a, b), c) == add(a, add(b, c)) == add(a, b, c)
    assert subtract(add(a, b), b) == dims.canonical(a)
    assert multiply(a, b) == multiply(b, a)
    assert multiply(a, add(b, c)) == add(multiply(a, b), multiply(a, c))
    assert floor_divide(add(a, multiply(n, b)), n) == add(floor_divide(a, n), b)
    assert floor_divide(multiply(a, 2), 2 * n) == floor_divide(a, n)


@given(sums, st.integers(1, 6), st.integers(1, 6))
def test_floors_of_floors_are_one(a, m, n):
    once = dims.floor_divide(a, m)
    assert dims.floor_divide(once, n) == dims.floor_divide(a, m * n)
    assert dims.floor_divide(dims.add(once, 5), n) == dims.floor_divide(dims.add(a, 5 * m), m * n)


@given(texts, texts, st.integers(1, 6), bindings)
def test_arithmetic_commutes_with_binding(a, b, n, binding):
    left, right = dims.evaluate(a, binding), dims.evaluate(b, binding)
    for found, expected in (
        (dims.add(a, b), left + right),
        (dims.subtract(a, b), left - right),
        (dims.multiply(a, b), left * right),
        (dims.floor_divide(a, n), left // n),
    ):
        assert dims.evaluate(found, binding) == expected


@given(st.lists(texts, max_size=3), st.lists(texts, max_size=2))
def test_a_product_divided_by_its_factors_is_the_rest(rest, parts):
    assume(dims.multiply(*parts) != 0)
    assert dims.quotient([*rest, *parts], parts) == dims.multiply(*rest)
    assert dims.quotient([dims.multiply(*rest, *parts)], parts) == dims.multiply(*rest)


@given(texts, texts, bindings)
def test_what_divides_divides_under_every_binding(whole, part, binding):
    found = dims.quotient([whole], [part])
    if found is not None:
        product = dims.evaluate(found, binding) * dims.evaluate(part, binding)
        assert product == dims.evaluate(whole, binding)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("T+K-K", "T"),
        ("2*(T//2)", "2*(T//2)"),
        ("(T//2)*2", "2*(T//2)"),
        ("(2*(T//2))//2*2", "2*(T//2)"),
        ("B*8", "8*B"),
        ("T//2", "(T-2)//2+1"),
        ("(T-3)//2+1", "(T-3)//2+1"),
        ("((T-3)//2+1-3)//2+1", "(T-7)//4+1"),
        ("(4*T+3)//2", "2*T+1"),
        ("T-S", "T-S"),
        ("0-T", "-T"),
        ("T-T", 0),
        ("(T+7)//1-T", 7),
    ],
)
def test_canonical_forms(text, expected):
    assert dims.canonical(text) == expected


def test_what_does_not_divide_has_no_quotient():
    for whole, part in (("T", 2), ("T", "S"), ("T+1", "T"), (4, 0), ("T", "T-T"), (3, "T"), ("T*T+1", "T+1")):
        assert dims.quotient([whole], [part]) is None
    assert dims.quotient([0, "T"], ["T"]) == 0


@pytest.mark.parametrize("text", ["T S", "T/2", "T//S", "T//0", "f(T)", "T**2", "1.5*T", "T+"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(GraphError, match=r"dimension '.*' is n"):
        dims.canonical(text)


def test_types_hold_canonical_sizes():
    kind = TensorType("i8", ("K+T-K", "2*(T)", "T-T+4"))
    assert kind.shape == ("T", "2*T", 4)
    assert parse_type("i8[K+T-K,2*(T),4]") == kind == parse_type(str(kind))
