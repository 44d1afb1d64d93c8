"""The documentation says what the code says: pages are fresh, links lead somewhere, the sample runs."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import typer

import nnaq.kernels  # noqa: F401  (fills the operator table)
from nnaq.cli import app
from nnaq.ir.numerics import ROUNDINGS
from nnaq.ir.op import Op, table

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
PAGES += sorted((ROOT / "docs").glob("*.md"))
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def generator() -> ModuleType:
    """docs/generate.py as a module."""
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATE = generator()


@pytest.mark.parametrize("name", GENERATE.PAGES)
def test_no_page_is_stale(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == GENERATE.PAGES[name](), "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name} links to {link}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_parameter_has_help(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    assert [p.name for p in command.params if not getattr(p, "help", None)] == []


@pytest.mark.parametrize("op", table().values(), ids=lambda op: op.name)
def test_every_operator_is_described(op: Op) -> None:
    assert op.doc
    assert f"\n### {op.name}\n" in (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("forms", "collapsed"),
    [
        (("i8 -> i8", "i8 -> i16", "i16 -> i8", "i16 -> i16"), ["i8|i16 -> i8|i16"]),
        (("i8 -> i8", "i16 -> i16"), ["i8 -> i8", "i16 -> i16"]),
        (("i8 i8 -> i8", "i8 -> i8"), ["i8 i8 -> i8", "i8 -> i8"]),
        ((), []),
    ],
)
def test_forms_are_collapsed_without_inventing_any(forms: tuple[str, ...], collapsed: list[str]) -> None:
    assert GENERATE.operators.collapsed(forms, ("x",)) == collapsed


@pytest.mark.parametrize(
    "op", [op for op in table().values() if op.operands[0] != "*xs"], ids=lambda op: op.name
)
def test_collapsed_forms_spell_out_to_the_forms(op: Op) -> None:
    spelled = {
        form for row in GENERATE.operators.collapsed(op.forms, op.operands) for form in spelled_out(row)
    }
    assert spelled == set(op.forms)


def spelled_out(row: str) -> list[str]:
    found = [""]
    for word in row.split():
        found = [f"{left} {choice}".strip() for left in found for choice in word.split("|")]
    return found


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_every_rounding_is_explained(rounding: str) -> None:
    assert f"| `{rounding}` |" in (ROOT / "docs" / "numerics.md").read_text(encoding="utf-8")


def test_every_key_of_the_report_is_explained() -> None:
    schema = json.loads((ROOT / "nnaq" / "report.schema.json").read_text(encoding="utf-8"))
    text = (ROOT / "docs" / "output.md").read_text(encoding="utf-8")
    keys = set(schema["properties"])
    for part in schema["properties"].values():
        keys |= set(part.get("required", [])) | set(part.get("items", {}).get("required", []))
    assert {key for key in keys if f"`{key}`" not in text} == set()


def test_the_python_sample_of_the_readme_runs(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (sample,) = re.findall(
        r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    done = subprocess.run([sys.executable, "-c", sample], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "sqnr:score" in done.stdout


def test_the_page_of_plugins_quotes_the_example() -> None:
    page = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    quotes = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(quotes) == 2
    assert all(quote in (ROOT / "examples" / "plugin.py").read_text(encoding="utf-8") for quote in quotes)


@pytest.mark.parametrize("name", ["demo", "test", "lint", "bench", "docs", "oracles"])
def test_make_help_lists_the_targets(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{name}:.*## \S", makefile, re.MULTILINE)
    assert f"make {name}" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8") + README.read_text(
        encoding="utf-8"
    )
