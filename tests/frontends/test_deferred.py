"""Deferred modules: found when they are imported, run when they are asked for something."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from nnaq.frontends.deferred import deferred


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the modules `early`, `late` and `late.inner` in the order in which they run."""
    (tmp_path / "late").mkdir()
    for name in ("early.py", "late/__init__.py", "late/inner.py"):
        (tmp_path / name).write_text("import sys\nsys.order_of_runs.append(__name__)\nANSWER = 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "order_of_runs", [], raising=False)
    yield sys.order_of_runs  # type: ignore[attr-defined]
    for name in ("early", "late", "late.inner"):
        sys.modules.pop(name, None)


def test_it_runs_when_it_is_asked_and_once(ran: list[str]) -> None:
    with deferred("late"):
        late = import_module("late")
        import_module("early")
    assert ran == ["early"]
    assert (late.ANSWER, late.ANSWER) == (42, 42)
    assert ran == ["early", "late"]
    assert import_module("late") is late


def test_a_part_alone_can_be_deferred(ran: list[str]) -> None:
    with deferred("late.inner"):
        late = import_module("late")
        inner = import_module("late.inner")
    assert ran == ["late"]
    assert late.inner is inner
    assert inner.ANSWER == 42
    assert ran == ["late", "late.inner"]


def test_what_ran_before_stays_as_it_is(ran: list[str]) -> None:
    late = import_module("late")
    with deferred("late"):
        assert import_module("late") is late
    assert (late.ANSWER, ran) == (42, ["late"])


def test_afterwards_imports_are_as_before(ran: list[str]) -> None:
    before = list(sys.meta_path)
    with pytest.raises(ModuleNotFoundError), deferred("late", "nowhere"):
        import_module("nowhere")
    assert sys.meta_path == before
    import_module("late")
    assert ran == ["late"]
