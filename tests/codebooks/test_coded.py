"""Weights whose codes are decided: the file that a training leaves, a broken one, a recipe that names it."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnaq.codebooks.coded import Coded, read_codebooks, write_codebooks
from nnaq.crossing import Reporter, crossing_of
from nnaq.errors import RecipeError
from nnaq.ir.build import Builder
from nnaq.ir.types import Palette, Quant, TensorType
from nnaq.quantize.recipe import load_recipe, parse_recipe
from nnaq.search.budget import parse_bound
from nnaq.search.choose import Wish
from nnaq.search.search import Question, search
from nnaq.targets import load_target


def coded(shape=(4, 6), bits=3, rows=0, zeros=False, seed=0):
    """Random codes on random tables, with a scale per row."""
    chance = np.random.default_rng(seed)
    levels = [code for code in range(-127, 128) if code or not zeros]
    count = -(-shape[0] // rows) if rows else 1
    tables = [tuple(sorted(chance.choice(levels, 2**bits - 1, replace=False).tolist())) for _ in range(count)]
    owners = np.arange(shape[0]) // (rows or shape[0])
    codes = np.array([chance.choice(tables[owner], shape[1:]) for owner in owners], np.int8)
    if zeros:
        codes[:, 0] = 0
    quant = Quant(tuple((chance.random(shape[0], np.float32) + np.float32(1e-3)).tolist()), 0, 0)
    palette = Palette(bits, tuple(tables), rows, int((codes == 0).sum()) if zeros else None)
    return Coded(codes, TensorType("i8", shape, quant, palette))


def equal(one, other):
    return one.kind == other.kind and one.codes.dtype == np.int8 and np.array_equal(one.codes, other.codes)


@given(st.integers(1, 7), st.sampled_from([0, 1, 3]), st.booleans(), st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_what_is_written_is_read_bit_for_bit(tmp_path_factory, bits, rows, zeros, seed):
    path = tmp_path_factory.mktemp("file") / "codebooks.npz"
    plain = Coded(np.array([[-127, 5]], np.int8), TensorType("i8", (1, 2), Quant((0.1,))))
    weights = {"a.b/c": coded((4, 6), bits, rows, zeros, seed), "plain": plain}
    write_codebooks(path, weights)
    found = read_codebooks(path)
    assert found.keys() == weights.keys() and all(equal(found[name], weights[name]) for name in weights)
    data = path.read_bytes()
    write_codebooks(path, dict(reversed(weights.items())))
    assert path.read_bytes() == data


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_a_broken_file_is_told_or_read_as_it_was(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("file") / "codebooks.npz"
    weights = {"w": coded()}
    write_codebooks(path, weights)
    whole = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        whole = whole[:place]
    else:
        whole[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(whole)
    with suppress(RecipeError):  # or the byte says nothing, such as a date
        assert equal(read_codebooks(path)["w"], weights["w"])


def written(path, **arrays):
    np.savez(path, **arrays)
    return path


KIND = "i8[2,2]<[0.5, 0.25]@0, 0> palette1(-3, 7)"


@pytest.mark.parametrize(
    ("codes", "kind", "told"),
    [
        (np.array([[-3, 7], [7, 7]], np.int8), KIND, None),
        (np.array([[-3, 7], [7, 1]], np.int8), KIND, "not in its table"),
        (np.array([[-3, 7]], np.int8), KIND, "expected i8, one shape"),
        (np.array([[-3, 7], [7, 7]], np.int16), KIND, "int16 codes"),
        (np.array([[-3, 7], [7, 7]], np.int8), KIND.replace(", 0.25", ""), "1 scales"),
        (np.array([[-3, 7], [7, 7]], np.int8), KIND.replace("@0, 0>", "@0, 3>"), "zero_point 3"),
        (np.array([[-3, 7], [7, 7]], np.int8), KIND.replace("@0", "@7"), "a scale for each channel"),
        (np.array([[-3, 7], [7, 7]], np.int8), "i8[2,2]", "no scales"),
        (np.array([[-3, 7], [7, 7]], np.int8), "nonsense", "cannot be read"),
        (np.array([[-3, 7], [7, 7]], np.int8), KIND.replace("7)", "x)"), "cannot be read"),
        (np.array([[-3, 7], [7, 7]], object), KIND, "cannot be read as codebooks"),
    ],
)
def test_codes_and_kind_must_fit(tmp_path, codes, kind, told):
    path = written(tmp_path / "codebooks.npz", **{"codes:w": codes, "kind:w": np.array(kind)})
    if told is None:
        assert np.array_equal(read_codebooks(path)["w"].codes, codes)
        return
    with pytest.raises(RecipeError, match=told) as raised:
        read_codebooks(path)
    assert "\n" not in str(raised.value)


def test_a_file_of_something_else_is_told(tmp_path):
    with pytest.raises(RecipeError, match=r"there is no .*codebooks\.npz"):
        read_codebooks(tmp_path / "codebooks.npz")
    path = written(tmp_path / "codebooks.npz", x=np.zeros(3))
    with pytest.raises(RecipeError, match="no file of codebooks"):
        read_codebooks(path)
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(RecipeError, match="cannot be read as codebooks"):
        read_codebooks(tmp_path / "array.npy")


# --- in a recipe


def graph():
    """y = w x"""
    made = Builder("product")
    made.input("x", TensorType("f32", ("N", 6)), None, 0)
    made.constant("w", np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32))
    (result,) = made.node("fully_connected", ["x", "w"], {"activation": "none"})
    made.output(result, None, 0)
    return made.build()


def crossed(recipe, target="edge8-sub8"):
    x = np.random.default_rng(2).normal(size=(5, 6)).astype(np.float32)
    return crossing_of(graph(), [{"x": x}], recipe, load_target(target), Reporter())


RECIPE = 'name = "r"\ncodebooks = "codebooks.npz"\n[quantize]\nactivations = "8"\n'


def test_the_codes_of_the_file_are_those_of_the_graph(tmp_path):
    weight = coded(seed=7)
    write_codebooks(tmp_path / "codebooks.npz", {"w": weight})
    (tmp_path / "recipe.toml").write_text(RECIPE + "[palettes.w]\nbits = 1\n")  # the file is over it
    recipe = load_recipe(tmp_path / "recipe.toml")
    crossing = crossed(recipe)
    assert crossing.integer.types["w"] == weight.kind
    np.testing.assert_array_equal(crossing.integer.constants["w"], weight.codes)
    np.testing.assert_array_equal(crossing.real.constants["w"], graph().constants["w"])
    (tmp_path / "else").mkdir()
    recipe.save(tmp_path / "else" / "recipe.toml")
    again = load_recipe(tmp_path / "else" / "recipe.toml")
    assert again.codebooks == (tmp_path / "else" / "codebooks.npz").resolve()
    assert equal(read_codebooks(again.codebooks)["w"], weight)
    assert parse_recipe(recipe.to_toml()) == recipe


def test_codebooks_of_another_model_are_told(tmp_path):
    (tmp_path / "recipe.toml").write_text(RECIPE)
    for weights, told in (
        ({"v": coded()}, "'v' .* is not there"),
        ({"w": coded((4, 5))}, r"is \[4, 6\] there"),
    ):
        write_codebooks(tmp_path / "codebooks.npz", weights)
        with pytest.raises(RecipeError, match=told):
            crossed(load_recipe(tmp_path / "recipe.toml"))


def test_what_would_change_trained_codes_is_refused():
    with pytest.raises(RecipeError, match="error_feedback would change the codes"):
        parse_recipe(RECIPE).merged(repair=["error_feedback"])


def test_a_search_does_not_pass_over_trained_codes(tmp_path):
    question = Question(
        load_target("edge8-sub8"), parse_recipe(RECIPE), (), Wish((parse_bound("bytes<=1k"),))
    )
    with pytest.raises(RecipeError, match="take `codebooks` out of it to search others"):
        search(tmp_path / "model.onnx", tmp_path, tmp_path / "out", question)
    assert not (tmp_path / "out").exists()
