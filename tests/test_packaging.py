"""What is shipped: the links resolve; wheel and sdist hold the package, all of it and nothing else."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINKS = ("passes", "kernels")
BUILD = [sys.executable, "-m", "build", "--no-isolation", "--skip-dependency-check"]
DATA = {
    "nnaq/py.typed",
    "nnaq/report.html.jinja",
    "nnaq/report.schema.json",
    "nnaq/targets/edge8.toml",
    "nnaq/targets/edge8-sub8.toml",
    "nnaq/targets/ethos-u55-128.toml",
    "nnaq/targets/ethos-u65-256.toml",
    "nnaq/targets/host.toml",
    "nnaq/quantize/recipes/silero_vad.toml",
}


def sources() -> list[str]:
    """Files of the working tree that git does not ignore, as it lists them; links count as files."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed: what belongs to the tree cannot be told")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("this tree is no git checkout: what belongs to it cannot be told")
    return [name for name in done.stdout.split("\0") if name and os.path.lexists(ROOT / name)]


def package_files(names: list[str]) -> set[str]:
    """The tree's files as an installed package names them: passes/ and kernels/ lie inside nnaq/."""
    inside = {f"nnaq/{name}" for name in names if name.startswith(tuple(f"{link}/" for link in LINKS))}
    links = {f"nnaq/{link}" for link in LINKS}
    return inside | {name for name in names if name.startswith("nnaq/")} - links


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree without what git ignores, so that building leaves no trace in the checkout."""
    copy = tmp_path_factory.mktemp("packaging") / "tree"
    for name in sources():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    return copy


def built(folder: Path, kind: str) -> Path:
    """The wheel or sdist of a source folder."""
    out = folder.parent / f"{kind}-of-{folder.name}"
    command = [*BUILD, f"--{kind}", "--outdir", str(out), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = out.iterdir()
    return found


@pytest.fixture(scope="module")
def wheel(tree: Path) -> Path:
    return built(tree, "wheel")


@pytest.fixture(scope="module")
def unpacked_sdist(tree: Path) -> Path:
    folder = tree.parent / "sdist"
    with tarfile.open(built(tree, "sdist")) as archive:
        archive.extractall(folder, filter="data")
    (found,) = folder.iterdir()
    return found


def held(wheel: Path) -> set[str]:
    """The files of a wheel, without its own metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


@pytest.mark.parametrize("name", LINKS)
def test_links_resolve(name: str) -> None:
    link = ROOT / "nnaq" / name
    assert link.is_symlink()
    assert os.readlink(link) == f"../{name}"
    assert link.resolve() == (ROOT / name).resolve()


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    assert held(wheel) == package_files(sources())
    assert {name.split("/")[0] for name in held(wheel)} == {"nnaq"}


def test_the_wheel_holds_its_data(wheel: Path) -> None:
    assert held(wheel) >= DATA


def test_the_wheel_carries_the_license(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert any(name.endswith("dist-info/licenses/LICENSE") for name in archive.namelist())


def test_the_sdist_holds_the_package(unpacked_sdist: Path) -> None:
    files = {str(p.relative_to(unpacked_sdist)) for p in unpacked_sdist.rglob("*") if p.is_file()}
    assert files >= package_files(sources())


def test_a_wheel_of_the_sdist_is_the_same(unpacked_sdist: Path, wheel: Path) -> None:
    assert held(built(unpacked_sdist, "wheel")) == held(wheel)


def test_an_unpacked_wheel_runs(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}

    def run(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    assert Path(run("-c", "import nnaq; print(nnaq.__file__)").strip()).is_relative_to(tmp_path)
    assert "edge8" in run("-m", "nnaq", "targets")
    assert "lower-to-integer" in run("-m", "nnaq", "passes")
