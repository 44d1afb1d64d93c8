"""Every kind of file that nnaq reads from outside: good ones to begin from, how they are changed, how read.

`read` does what a command would do with such a file before any work begins. Where a model comes out, it also
runs it: one that was accepted must not fail later, nor reach out of its arrays.
"""

import io
import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import soundfile
from frontends.tflite_files import GROUPS, cases
from fuzz.changes import change_bytes, change_onnx, change_text
from voice_models import RECIPE, detector

from nnaq.errors import GraphError, NnaqError
from nnaq.frontends import check, load
from nnaq.interpret import Interpreter
from nnaq.ir.graph import Graph
from nnaq.ir.types import storage

ROOT = Path(__file__).parents[2]
LARGEST = 2**16  # entries of a value up to which a model that was accepted is run
Read = Callable[[bytes, Path], None]


@dataclass(frozen=True)
class Format:
    """A kind of file. bases: good files by name; read: raises NnaqError or nothing."""

    bases: Callable[[], Mapping[str, bytes]]
    change: Callable[[Random, bytes], bytes]
    read: Read

    def warm(self, folder: Path) -> None:
        """Read one file as it is, so that libraries are there before memory is counted."""
        with suppress(NnaqError):
            self.read(next(iter(self.bases().values())), folder)


def case_of(format: str, number: int, seed: int) -> bytes:
    """The file of a case; the same for the same seed."""
    random, held = Random(f"{seed}/{format}/{number}"), FORMATS[format]
    bases = held.bases()
    return held.change(random, bases[random.choice(sorted(bases))])


def _written(data: bytes, path: Path) -> Path:
    path.write_bytes(data)
    return path


# --- models


@cache
def _onnx_models() -> dict[str, bytes]:
    return {"detector": detector().SerializeToString()}


@cache
def _onnx_nodes() -> dict[str, bytes]:
    """The ONNX project's own cases of one operator, those that are small."""
    from frontends.onnx_nodes import claimed

    found = {case.name: case.model.SerializeToString() for case in claimed()}
    return {name: data for name, data in found.items() if len(data) < 20_000}


def _read_onnx(data: bytes, folder: Path) -> None:
    path = _written(data, folder / "model.onnx")
    check(path)
    _run(load(path).graph, "real")


@cache
def _tflite_models() -> dict[str, bytes]:
    found = {
        f"{group} {n}": case["model"].tobytes() for group in GROUPS for n, case in enumerate(cases(group))
    }
    return {name: data for name, data in found.items() if len(data) < 20_000}


def _read_tflite(data: bytes, folder: Path) -> None:
    path = _written(data, folder / "model.tflite")
    check(path)
    _run(load(path).graph, "reference")


def _run(graph: Graph, mode: str) -> None:
    """One step on zeros, open axes 2 long, if the model is small."""
    sizes = [math.prod(d if isinstance(d, int) else 2 for d in kind.shape) for kind in graph.types.values()]
    if max(sizes, default=0) > LARGEST or sum(sizes) > 16 * LARGEST:
        return
    zeros = {
        port.name: np.zeros(
            [d if isinstance(d, int) else 2 for d in graph.types[port.name].shape],
            storage(graph.types[port.name].dtype),
        )
        for port in graph.inputs
    }
    with np.errstate(all="ignore"):
        Interpreter(graph, mode).step(zeros)  # type: ignore[arg-type]


# --- what a lowering writes


@cache
def _lowered_graph() -> Graph:
    from nnaq.crossing import import_options, lower_graph
    from nnaq.frontends.onnx import load_model
    from nnaq.quantize.recipe import parse_recipe
    from nnaq.targets import load_target

    recipe = parse_recipe(
        f'{RECIPE}[quantize]\nactivations = "8"\n[palettes.w]\nbits = 3\nweighting = "none"\n'
    )
    graph = load_model(detector(), "tiny", import_options(recipe)).graph
    sound = [{"x": np.random.default_rng(n).normal(size=(6, 16)).astype(np.float32)} for n in range(2)]
    return lower_graph(graph, sound[:1], sound[1:], recipe, load_target("edge8-sub8")).crossing.integer


@cache
def _artifacts() -> dict[str, bytes]:
    from nnaq.export.onnx import export_model

    return {"detector": export_model(_lowered_graph()).SerializeToString()}


def _read_artifact(data: bytes, folder: Path) -> None:
    from nnaq.export.read import read_lowered

    read_lowered(_written(data, folder / "model.onnx"))


@cache
def _graph_texts() -> dict[str, bytes]:
    from nnaq.ir.text import print_graph

    return {"detector": print_graph(_lowered_graph()).encode()}


def _read_forgery(data: bytes, folder: Path) -> None:
    """A graph of somebody else's making, exported as nnaq would: its digest fits."""
    from nnaq.export.onnx import save
    from nnaq.export.read import read_lowered
    from nnaq.ir.text import parse_graph
    from nnaq.ir.verify import verify

    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise GraphError(str(error)) from None
    graph = verify(parse_graph(text, _lowered_graph().constants))
    save(graph, folder / "model.onnx")
    _run(read_lowered(folder / "model.onnx"), "reference")


def _npz(**arrays: np.ndarray) -> dict[str, bytes]:
    plain, packed = io.BytesIO(), io.BytesIO()
    np.savez(plain, **arrays)  # type: ignore[arg-type]
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    return {"plain": plain.getvalue(), "packed": packed.getvalue()}


@cache
def _recorded_arrays() -> dict[str, bytes]:
    return _npz(x=np.zeros((5, 16), np.float32))


def _read_arrays(data: bytes, folder: Path) -> None:
    from nnaq.tasks.recordings import read_arrays

    read_arrays(_written(data, folder / "x.npz"), _lowered_graph())


@cache
def _golden() -> dict[str, bytes]:
    codes = {"input:x": np.zeros((3, 16), np.float32), "output:score": np.zeros((3, 1), np.float32)}
    return _npz(**codes)


def _read_golden(data: bytes, folder: Path) -> None:
    from nnaq.artifact import read_golden

    read_golden(_written(data, folder / "golden.npz"), _lowered_graph())


@cache
def _codebooks() -> dict[str, bytes]:
    kind = "i8[2,3]<[0.5, 0.25]@0, 0> palette1(-96, 101)"
    return _npz(**{"codes:w": np.array([[-96, 101, 101], [-96] * 3], np.int8), "kind:w": np.array(kind)})


def _read_codebooks(data: bytes, folder: Path) -> None:
    from nnaq.codebooks.coded import read_codebooks

    read_codebooks(_written(data, folder / "codebooks.npz"))


# --- texts


def _texts(pattern: str, root: Path = ROOT / "nnaq") -> Callable[[], Mapping[str, bytes]]:
    return cache(lambda: {path.name: path.read_bytes() for path in sorted(root.glob(pattern))})


def _read_target(data: bytes, folder: Path) -> None:
    from nnaq.simulate import simulate
    from nnaq.targets import load_target

    target = load_target(_written(data, folder / "target.toml"))
    simulate(_lowered_graph(), target)


@cache
def _recipes() -> dict[str, bytes]:
    whole = """name = "tiny"
metric = "decision:score>0.5"
[input]
kind = "frames"
port = "x"
sample_rate = 8000
hop = 16
context = 0
[ports]
time = { x = 0, score = 0 }
batch = {}
[states]
h = "hn"
[import]
pins = { sr = 16000 }
shapes = { input = ["T", 576] }
[quantize]
activations = "auto"
observer = "percentile"
percentile = 0.999
goal = 0.995
seed = 0
repair = ["error_feedback"]
[values.h]
dtype = "i8"
low = -1.0
high = 1.0
[palettes.w]
bits = 4
granularity = "per_group"
group_size = 8
method = "optimal"
[[overrides]]
regex = 'encoder\\..*'
palette = { bits = 4 }
"""
    return {"whole": whole.encode(), **_texts("quantize/recipes/*.toml")()}


def _read_recipe(data: bytes, folder: Path) -> None:
    from nnaq.quantize.overrides import resolve
    from nnaq.quantize.recipe import load_recipe, parse_recipe

    recipe = load_recipe(_written(data, folder / "recipe.toml"))
    assert parse_recipe(recipe.to_toml()).name == recipe.name
    resolve(recipe, _lowered_graph())


def _read_config(data: bytes, folder: Path) -> None:
    from nnaq.train.config import load_config

    load_config(_written(data, folder / "train.toml"))


def _read_hearing(data: bytes, folder: Path) -> None:
    from nnaq.tasks.hearing import read_tables

    _, hearing = read_tables(_written(data, folder / "recogniser.toml").parent)
    if hearing.samples < LARGEST:
        hearing.features(np.zeros(100, np.float32))


@cache
def _journals() -> dict[str, bytes]:
    lines = [{"nnaq_journal": 1, "run": {"model": "5f3a"}}, {"id": "a", "result": {"noise": 0.5, "bytes": 7}}]
    return {"journal": b"".join(json.dumps(line).encode() + b"\n" for line in lines)}


def _read_journal(data: bytes, folder: Path) -> None:
    from nnaq.search.journal import opened

    with opened(_written(data, folder / "journal.jsonl"), {"model": "5f3a"}):
        pass


@cache
def _tables() -> dict[str, bytes]:
    return {"table": b"path\ttext\na.wav\tONE TWO\nb/c.flac\tthree\n"}


def _read_table(data: bytes, folder: Path) -> None:
    from nnaq.tasks.transcripts import read_texts

    _written(data, folder / "test.tsv")
    read_texts(folder, "test.tsv")


# --- sound and parameters


@cache
def _sounds() -> dict[str, bytes]:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 400)
    kinds = {
        "pcm": ("WAV", "PCM_16"),
        "float": ("WAV", "FLOAT"),
        "wide": ("WAV", "PCM_24"),
        "flac": ("FLAC", "PCM_16"),
    }
    found = {}
    for name, (container, subtype) in kinds.items():
        file = io.BytesIO()
        soundfile.write(file, noise, 8000, subtype, format=container)
        found[name] = file.getvalue()
    return found


def _read_sound(data: bytes, folder: Path) -> None:
    from nnaq.tasks.recordings import read_audio

    read_audio(_written(data, folder / "a.wav"), 8000)


@cache
def _parameters() -> dict[str, bytes]:
    from safetensors.numpy import save

    return {
        "two": save(
            {"w": np.zeros((3, 4), np.float32), "n": np.zeros((), np.int64)}, {"nnaq": '{"format": 1}'}
        )
    }


def _read_parameters(data: bytes, folder: Path) -> None:
    from nnaq.train.checkpoint import read_tensors

    read_tensors(_written(data, folder / "best.safetensors"))


FORMATS: dict[str, Format] = {
    "onnx": Format(_onnx_models, change_onnx, _read_onnx),
    "onnx-nodes": Format(_onnx_nodes, change_onnx, _read_onnx),
    "tflite": Format(_tflite_models, change_bytes, _read_tflite),
    "artifact": Format(_artifacts, change_onnx, _read_artifact),
    "forgery": Format(_graph_texts, change_text, _read_forgery),
    "target": Format(_texts("targets/*.toml"), change_text, _read_target),
    "recipe": Format(_recipes, change_text, _read_recipe),
    "training": Format(_texts("train/shipped/*.toml"), change_text, _read_config),
    "hearing": Format(_texts("recognisers/rnnt/recogniser.toml"), change_text, _read_hearing),
    "sound": Format(_sounds, change_bytes, _read_sound),
    "arrays": Format(_recorded_arrays, change_bytes, _read_arrays),
    "golden": Format(_golden, change_bytes, _read_golden),
    "codebooks": Format(_codebooks, change_bytes, _read_codebooks),
    "parameters": Format(_parameters, change_bytes, _read_parameters),
    "journal": Format(_journals, change_text, _read_journal),
    "table": Format(_tables, change_bytes, _read_table),
}
