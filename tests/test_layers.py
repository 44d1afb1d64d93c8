"""The house has one-way streets: a room imports only from rooms to its left."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = (
    "errors outside jit ir kernels targets codebooks plan interpret quantize passes cost schedule simulate "
    "frontends export pipeline models tasks crossing train figures report findings artifact opened compare "
    "lowering package perceived packing packing_understander understanding evaluation plugins modules diff "
    "whatif search finetune speed cli"
).split()
# Heavy libraries stay in the rooms that need them, so that the rest imports quickly.
ONLY_IN = {
    "torch": {"frontends", "models", "tasks", "train", "search"},
    "numba": {"jit", "machine"},
    "llvmlite": {"machine"},
    "onnx": {"frontends", "export"},
    "onnx_ir": {"frontends", "export"},
    "onnxscript": {"frontends", "export"},
    "onnxruntime": {"speed"},  # the peer of nnaq bench, in a process of its own
    "tflite": {"frontends", "export"},
    "pydantic": {"targets", "quantize", "train"},
    "pickle": set(),
}
FACES = {"__init__", "__main__"}


def room_of(path: Path) -> str:
    inside = path.relative_to(ROOT).with_suffix("").parts
    return inside[1] if inside[0] == "nnaq" else inside[0]


def imports(path: Path) -> set[str]:
    """Absolute module names a file imports, at any depth."""
    found = set()
    for tree in ast.walk(ast.parse(path.read_text())):
        if isinstance(tree, ast.Import):
            found |= {alias.name for alias in tree.names}
        elif isinstance(tree, ast.ImportFrom) and tree.module:
            found.add(tree.module)
            if tree.module == "nnaq":
                found |= {f"nnaq.{alias.name}" for alias in tree.names}
    return found


SOURCES = [p for folder in ("nnaq", "kernels", "passes") for p in sorted((ROOT / folder).rglob("*.py"))]
SOURCES = [p for p in SOURCES if not any(parent.is_symlink() for parent in p.parents)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_left(path: Path) -> None:
    room = room_of(path)
    for module in imports(path):
        top, *rest = module.split(".")
        if top == "nnaq" and rest and room not in FACES:
            assert LAYERS.index(rest[0]) <= LAYERS.index(room), f"{path.name} ({room}) imports {module}"
        if top in ONLY_IN:
            own = "machine" if "machine" in path.parts else room
            assert own in ONLY_IN[top], f"{own} may not import {top}"


def test_every_room_has_a_place() -> None:
    assert {room_of(p) for p in SOURCES} - FACES <= set(LAYERS)
