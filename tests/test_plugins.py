"""Operators, passes and targets from outside, as a package and as a file, in processes of their own."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from frontends.onnx_models import model, normal

ROOT = Path(__file__).parent.parent

PLUGIN = ROOT / "examples" / "plugin.py"
ENTRY_POINTS = """[nnaq.ops]
halved = vendor_nnaq:OPS
[nnaq.passes]
mark-graph = vendor_nnaq:PASSES
[nnaq.targets]
tiny_chip = vendor_nnaq:TARGETS
"""


def vendor_model(folder: Path) -> Path:
    """x -> Gemm -> the vendor's operator -> y."""
    made = model(
        """(float[T,8] x) => (float[T,4] y) {
            a = MatMul(x, w)
            y = vendor.audio.Halve<steps=1>(a)
        }""".replace("vendor.audio.Halve", "Relu").replace("<steps=1>", ""),
        {"w": normal(8, 4, seed=1)},
    )
    node = made.graph.node[-1]
    node.op_type, node.domain = "Halve", "vendor.audio"
    node.attribute.append(onnx.helper.make_attribute("steps", 1))
    made.opset_import.append(onnx.helper.make_opsetid("vendor.audio", 1))
    onnx.save(made, folder / "model.onnx")
    for seed in range(3):
        data = folder / "data" / f"{seed}.npz"
        data.parent.mkdir(exist_ok=True)
        np.savez(data, x=np.random.default_rng(seed).uniform(-1, 1, (20, 8)).astype(np.float32))
    return folder / "model.onnx"


def nnaq(*words: object, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own: what plugins add stays there."""
    search = [] if path is None else [f"sys.path.insert(0, {str(path)!r})"]
    program = "; ".join(["import sys", *search, "from nnaq.cli import main", "main()"])
    command = [sys.executable, "-c", program, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def package(tmp_path) -> Path:
    """A folder with an installed package: a module and the metadata that pip would write."""
    place = tmp_path / "site"
    info = place / "vendor_nnaq-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vendor-nnaq\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    shutil.copy(PLUGIN.with_name("tiny_chip.toml"), place)
    shutil.copy(PLUGIN, place / "vendor_nnaq.py")
    return place


def lower(model_file: Path, *words: object, path: Path | None = None) -> dict:
    out = model_file.parent / "out"
    said = nnaq(
        "lower", model_file, "--calibrate", model_file.parent / "data", "-o", out, "--target", "tiny_chip",
        "--time", "x:0", "--activations", "8", "--dump", "--json", *words, path=path,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


def holds_the_vendors_parts(report: dict, out: Path) -> None:
    assert report["target"] == "tiny_chip"
    assert report["islands"] == []
    assert "halved" in {layer["op"] for layer in report["layers"]}
    assert report["checks"]["file_equals_simulator"]["mismatches"] == 0
    assert report["checks"]["file_equals_simulator"]["values"] > 0
    assert any("mark-graph" in path.name for path in (out / "passes").iterdir())


def test_a_package_adds_an_operator_a_pass_and_a_target_and_lowers_through_them(tmp_path, package):
    report = lower(vendor_model(tmp_path), path=package)
    holds_the_vendors_parts(report, tmp_path / "out")
    assert "mark-graph" in nnaq("passes", path=package).stdout
    assert "tiny_chip" in nnaq("targets", path=package).stdout


def test_a_file_adds_the_same(tmp_path):
    report = lower(vendor_model(tmp_path), "--plugin", PLUGIN)
    holds_the_vendors_parts(report, tmp_path / "out")
    assert "halved(x)" in nnaq("ops", "--plugin", PLUGIN).stdout


def test_what_a_plugin_lowered_asks_for_the_plugin(tmp_path):
    lower(vendor_model(tmp_path), "--plugin", PLUGIN)
    out = tmp_path / "out"
    told = nnaq("show", out)
    assert told.returncode == 2
    assert "no operator 'halved'; if a plugin adds it" in told.stderr
    assert "--plugin" in told.stderr
    assert "changed" not in told.stderr
    assert "halved" in nnaq("show", out, "--plugin", PLUGIN).stdout


def test_without_the_plugin_the_operator_is_refused_by_name(tmp_path):
    said = nnaq("check", vendor_model(tmp_path))
    assert said.returncode == 2
    assert "Halve" in said.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 / 0", "fails: ZeroDivisionError"),
        ("nothing = 1", "offers nothing"),
        ("OPS = 3", "expected an Op"),
        ("TARGETS = 'absent.toml'", "no target file"),
        ("from nnaq.passes import Step, Canonicalize\nPASSES = Step(Canonicalize, '', '')", "already"),
        ("import nnaq.kernels\nfrom nnaq.ir.op import lookup\nOPS = lookup('relu')", "twice"),
    ],
)
def test_a_bad_plugin_is_one_sentence(tmp_path, text, said):
    path = tmp_path / "bad.py"
    path.write_text(text)
    answer = nnaq("ops", "--plugin", path)
    assert answer.returncode == 2
    assert said in answer.stderr
    assert answer.stderr.startswith("nnaq: ") and answer.stderr.count("\n") == 1


def test_a_missing_plugin_is_one_sentence(tmp_path):
    answer = nnaq("ops", "--plugin", tmp_path / "absent.py")
    assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)
