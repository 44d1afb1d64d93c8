"""Hypothesis profiles: dev (few cases), ci (the default), deep (`--hypothesis-profile deep`).

And the fixtures of the command line: `nnaq` calls it, `place` is a folder with all it needs,
`lowered` what it made of one.
"""

import io
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from command_line import Said, lower_words
from hypothesis import HealthCheck, settings

from nnaq.cli import main

_COMMON = {"deadline": None, "print_blob": True, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("dev", max_examples=20, **_COMMON)
settings.register_profile("ci", max_examples=60, derandomize=True, **_COMMON)
settings.register_profile("deep", max_examples=2000, **_COMMON)
settings.load_profile("ci")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """torch on one thread, as all who share this machine's cores want it; for `pytest.mark.usefixtures`."""
    import torch  # which few tests need

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def nnaq(monkeypatch, capsys) -> Callable[..., Said]:
    """The command line in this process: `nnaq("lower", …)`."""

    def call(*words: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["nnaq", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return Said(ended.value.code or 0, out, err)

    return call


@pytest.fixture(scope="session")
def _scene(tmp_path_factory) -> Path:
    from voice_models import scene  # needs onnx, which few tests do

    return scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="session")
def nnaq_once() -> Callable[..., str]:
    """The command line for fixtures that many tests share: what a good command printed."""

    def call(*words: object) -> str:
        said, sys.argv = io.StringIO(), ["nnaq", *map(str, words)]
        with redirect_stdout(said), pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return said.getvalue()

    return call


@pytest.fixture(scope="session")
def lowered(_scene, nnaq_once, tmp_path_factory) -> Path:
    """The output folder of one good lowering; not to be written to."""
    folder = shutil.copytree(_scene, tmp_path_factory.mktemp("lowered") / "scene")
    nnaq_once("lower", *lower_words(folder), "--evaluate", folder / "held", "--json")
    return folder / "out"


@pytest.fixture
def place(_scene, tmp_path) -> Path:
    """A folder with model, recipe and recordings of one's own."""
    return shutil.copytree(_scene, tmp_path / "scene")
