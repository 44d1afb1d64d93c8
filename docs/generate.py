"""The pages of docs/ that follow from the code, and the tables of the README.

python docs/generate.py            write them
python docs/generate.py --check    write nothing; exit 1 and name every stale page
"""

import ast
import dataclasses
import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import typer

import nnaq.kernels
from nnaq.cli import EPILOG, app
from nnaq.ir.op import Op, table
from nnaq.passes import PIPELINE
from nnaq.quantize import recipe as recipes_room
from nnaq.targets import load_target, reader, shipped
from nnaq.targets import target as targets_room

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))  # the comparisons with oracles stand beside the tests that run them
from comparisons import TABLE  # type: ignore[import-not-found]  # noqa: E402

VECTORS = ROOT / "tests" / "golden" / "oracles" / "index.json"
CONFORMANCE = ROOT / "benchmarks" / "results" / "conformance.json"
ACCURACY = ROOT / "benchmarks" / "results" / "silero_accuracy.json"
ORACLE_NAMES = {"ort": "ONNX Runtime", "tflm": "tflite-micro", "tosa": "TOSA reference model"}

Form = tuple[frozenset[str], ...]


def heading(title: str, lead: str) -> str:
    """The top of a generated page."""
    return (
        f"<!-- Written by docs/generate.py; change the code it comes from instead. -->\n# {title}\n\n{lead}\n"
    )


def markdown_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table; `|` inside cells is escaped."""
    columns = list(columns)
    lines = [columns, ["---"] * len(columns), *([c.replace("|", "\\|") for c in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def fenced(text: str, language: str = "text") -> str:
    return f"```{language}\n{text.rstrip()}\n```\n"


def docstring(what: Any) -> str:
    """The words of a module, class or function; a module's indented blocks stay indented."""
    if inspect.ismodule(what):  # from the source: Python 3.13 takes away what all lines share
        return (ast.get_docstring(ast.parse(inspect.getsource(what)), clean=False) or "").strip()
    return inspect.cleandoc(what.__doc__ or "")


# Operators


def families() -> Iterator[tuple[ModuleType, list[Op]]]:
    """The modules of kernels/ with the operators that each of them means, in order of name."""
    for family in nnaq.kernels.__all__:
        module = import_module(f"nnaq.kernels.{family}")
        yield module, [op for op in table().values() if module_of(op) == module.__name__]


def module_of(op: Op) -> str:
    """The module of an operator's real meaning; it may be wrapped in a partial."""
    return str(getattr(op.real, "func", op.real).__module__)


def collapsed(forms: Iterable[str], operands: tuple[str, ...]) -> list[str]:
    """Integer forms with `a|b` where two forms differ in one place only, and `…` where operands repeat."""
    if any(operand.startswith("*") for operand in operands):
        forms = dict.fromkeys(f"{form.split()[0]} … -> {form.split()[-1]}" for form in forms)
    rows: list[Form] = [tuple(frozenset([word]) for word in form.split()) for form in forms]
    while merged := next(merges(rows), None):
        rows = merged
    return [" ".join("|".join(sorted(words, key=by_width)) for words in row) for row in rows]


def merges(rows: list[Form]) -> Iterator[list[Form]]:
    """Every way to join two rows that differ in one place."""
    for i, row in enumerate(rows):
        for j in range(i + 1, len(rows)):
            other = rows[j]
            places = [k for k, pair in enumerate(zip(row, other, strict=False)) if pair[0] != pair[1]]
            if len(row) == len(other) and len(places) == 1:
                k = places[0]
                joined = (*row[:k], row[k] | other[k], *row[k + 1 :])
                yield [*rows[:i], joined, *rows[i + 1 : j], *rows[j + 1 :]]


def by_width(dtype: str) -> tuple[int, str]:
    return int(dtype[1:]) if dtype[1:].isdigit() else 0, dtype


def operators() -> str:
    lead = dedent("""\
        What nnaq can lower. An operator is one object with a meaning over the reals and an integer form;
        every multiplier, shift and table of the integer form is a constant operand that follows the real
        operands. `x?` is optional, `*xs` repeats, `i8|i16` is either. `nnaq ops` prints this list,
        `nnaq ops --json` in full. Symbols and roundings are explained in [numerics.md](numerics.md).
        """)
    summary = [
        (f"[`{op.name}`](#{op.name})", f"`{op.name}({', '.join(op.operands)})`", f"`{op.doc}`")
        for op in table().values()
    ]
    parts = [heading("Operators", lead), markdown_table(("operator", "operands", "formula"), summary)]
    for module, ops in families():
        parts.append(f"\n## kernels/{module.__name__.split('.')[-1]}.py\n\n{fenced(docstring(module))}")
        parts += [f"\n### {op.name}\n\n{described(op)}" for op in ops]
    return "".join(parts)


def described(op: Op) -> str:
    """One operator in a few lines."""
    forms = "\n".join(collapsed(op.forms, op.operands)) or "none: it stands in the real graph only"
    facts = ["composite: it equals a normative graph of primitives" if op.is_composite else "primitive"]
    if op.moves:
        facts.append("moves codes: operands and results share one code type, nothing is rounded")
    facts += [f"one code type for {listed(op, tie)}" for tie in op.ties]
    facts += [
        f"weights: `{name_of(op, at)}`, one scale per entry of axis {axis}" for at, axis in op.weights.items()
    ]
    facts += [
        f"`{name_of(op, at)}` insists on {demand.replace('_', ' ')}" for at, demand in op.demands.items()
    ]
    return f"`{op.name}({', '.join(op.operands)})`: {'; '.join(facts)}.\n\n{fenced(forms)}"


def listed(op: Op, positions: Iterable[int]) -> str:
    return ", ".join(name_of(op, position) for position in positions)


def name_of(op: Op, position: int) -> str:
    """An operand by position; results count as ~0, ~1, …"""
    return f"result {~position}" if position < 0 else op.operands[position].rstrip("?")


# Passes


def passes() -> str:
    lead = dedent("""\
        The pipeline, in order. A pass takes a frozen graph and returns a new one, says what it keeps, and
        can be held to that by the manager (`nnaq lower --dump` writes the graph after each).
        [examples/write_a_pass.py](../examples/write_a_pass.py) is a pass of one's own.
        """)
    rows = [
        (str(n), f"[`{s.made_by.name}`](#{s.made_by.name})", s.made_by.keeps, s.reason)
        for n, s in enumerate(PIPELINE, 1)
    ]
    manager = import_module("nnaq.passes.manager")
    parts = [
        heading("Passes", lead),
        markdown_table(("", "pass", "keeps", "why it stands here"), rows),
        f"\n## What a pass keeps\n\n{fenced(docstring(manager))}",
    ]
    for made_by in dict.fromkeys(step.made_by for step in PIPELINE):
        module = import_module(made_by.__module__)
        parts.append(f"\n## {made_by.name}\n\n{fenced(docstring(module))}")
        parts.append(f"\n`{made_by.__name__}`: {docstring(made_by).split(chr(10))[0]}\n")
        options = [f"`{f.name}: {spelled(f.type)}`" for f in dataclasses.fields(made_by)]
        parts.append(f"Options: {', '.join(options)}.\n" if options else "No options.\n")
    return "".join(parts)


def spelled(annotation: Any) -> str:
    """A type as one writes it, without the modules it comes from."""
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", inspect.formatannotation(annotation))


# Targets


def targets() -> str:
    lead = dedent("""\
        A target is a TOML file: a machine as data, with its numerics contract. `nnaq targets` lists those
        that ship, `nnaq targets edge8` shows one; `--target my_chip.toml` takes one of yours. All mistakes
        of a file are reported at once, with line, key and what to write.
        """)
    room = targets_room
    parts = [heading("Targets", lead), "\n## Keys of the file\n\n", target_keys()]
    parts.append(
        "\nOf `bytes_per_cycle` and `bytes_per_second` a table gives one.\n\n## What the keys mean\n"
    )
    for kind in (room.Target, room.Array, room.Memory, room.Host):
        parts.append(f"\n`{kind.__name__}`\n\n{fenced(docstring(kind))}")
    simulated = [("cycles of an operator", "cost"), ("a step", "machine"), ("memory", "memory")]
    parts.append(
        "\n## How a step is timed\n\nAn estimate by formula; it has not been held against silicon.\n"
    )
    parts += [
        f"\n{title}\n\n{fenced(docstring(import_module(f'nnaq.simulate.{name}')))}"
        for title, name in simulated
    ]
    parts.append("\n## Shipped targets\n")
    for name in shipped():
        file = (ROOT / "nnaq" / "targets" / f"{name}.toml").read_text(encoding="utf-8")
        parts.append(f"\n### {name}\n\n{fenced(load_target(name).show())}\n{fenced(file, 'toml')}")
    return "".join(parts)


def target_keys() -> str:
    """Every key of a target file, from the model that reads it."""
    return markdown_table(("key", "", "write"), key_rows(reader._Target, ""))


def key_rows(model: Any, prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, info in model.model_fields.items():
        if hasattr(info.annotation, "model_fields"):
            yield from key_rows(info.annotation, f"{prefix}{name}.")
        else:
            optional = info.default is None or "rate" in name
            default = (
                "required"
                if info.is_required()
                else ""
                if optional
                else f"default `{json.dumps(info.default)}`"
            )
            yield f"`{prefix}{name}`", default, info.description or ""


# Command line


def cli() -> str:
    lead = dedent(f"""\
        `nnaq COMMAND --help` says the same. {EPILOG}

        Results go to standard output, progress to standard error; with `--json` standard output holds
        JSON alone.
        """)
    group = typer.main.get_command(app)
    commands = group.commands  # type: ignore[attr-defined]
    rows = ((f"[`nnaq {name}`](#nnaq-{name})", first_line(c.help)) for name, c in commands.items())
    parts = [heading("Command line", lead), markdown_table(("command", "what it does"), rows)]
    for name, command in commands.items():
        parts.append(f"\n## nnaq {name}\n\n{inspect.cleandoc(command.help or '')}\n\n")
        parts.append(markdown_table(("parameter", "default", "meaning"), map(parameter, command.params)))
    return "".join(parts)


def first_line(text: str | None) -> str:
    return inspect.cleandoc(text or "").split("\n")[0]


def parameter(given: Any) -> tuple[str, str, str]:
    """Name, default and meaning of an argument or option, whatever release of the parser prints --help."""
    names = (
        ", ".join(f"`{o}`" for o in given.opts)
        if given.param_type_name == "option"
        else f"`{given.name.upper()}`"
    )
    default = (
        "required"
        if given.required
        else ""
        if given.default in (None, False, [], ())
        else f"`{given.default}`"
    )
    return names, default, given.help or ""


# Recipes


def recipes() -> str:
    prose, example = parted(docstring(recipes_room))
    lead = f"{prose[0]}\n\nEvery key, with an example value:\n"
    parts = [heading("Recipes", lead), "\n", fenced(example, "toml"), "\n", "\n\n".join(prose[1:]), "\n"]
    observers = docstring(import_module("nnaq.quantize.observers"))
    parts += ["\n## Observers\n\n", fenced(observers)]
    parts += ["\n## Framing\n\n", fenced(docstring(import_module("nnaq.tasks.framing")))]
    metric = docstring(import_module("nnaq.tasks.metrics").parse_metric)
    parts += [
        "\n## Metrics\n\n",
        fenced(docstring(import_module("nnaq.tasks.metrics"))),
        "\n",
        fenced(metric),
    ]
    for name, path in recipes_room.shipped_recipes().items():
        parts.append(
            f"\n## The shipped recipe `{name}`\n\n{fenced(path.read_text(encoding='utf-8'), 'toml')}"
        )
    return "".join(parts)


def parted(text: str) -> tuple[list[str], str]:
    """The paragraphs of a docstring, and its indented blocks joined."""
    blocks = text.split("\n\n")
    code = [dedent(block) for block in blocks if block.startswith("    ")]
    return [block for block in blocks if not block.startswith("    ")], "\n\n".join(code)


# Oracles


def oracles() -> str:
    """Where the golden vectors come from; what they prove is counted on the page conformance.md."""
    lead = dedent("""\
        Golden vectors made by runtimes that nnaq's authors did not write. Each file is committed with seed,
        versions and hash; tests hold nnaq's kernels to them with equality, and
        [conformance.md](conformance.md) counts the values. Cases that nnaq's contract refuses (biases beyond
        48 bits, products of 32-bit codes) are left out. [tests/oracles](../tests/oracles/README.md) tells
        how the files are made; `make oracles` builds the environments, and `pytest -m oracle` then
        compares with fresh seeds. "Bit-exact" always names the other side: runtime, version, rounding.
        """)
    modes: dict[str, list[str]] = {}
    for key in TABLE:
        modes.setdefault(key.file, []).append(key.mode)
    rows = []
    for name, record in sorted(json.loads(VECTORS.read_text(encoding="utf-8")).items()):
        held = ", ".join(modes.get(Path(name).stem, ["waits for its operator"]))
        versions = ", ".join(record["versions"])
        rows.append((f"`{name}`", held, str(record["seed"]), versions, f"`{record['sha256'][:12]}`"))
    return heading("Oracles", lead) + markdown_table(("file", "mode", "seed", "made with", "sha256"), rows)


def conformance() -> str:
    """The README's table: one row per oracle, as benchmarks/conformance.py measured it."""
    rows = []
    records = json.loads(CONFORMANCE.read_text(encoding="utf-8"))
    for oracle, title in ORACLE_NAMES.items():
        own = [record for record in records if record["oracle"] == oracle]
        operators = str(len({record["op"] for record in own}))
        modes = ", ".join(f"`{mode}`" for mode in dict.fromkeys(record["mode"] for record in own))
        counts = [f"{sum(record[what] for record in own):,}" for what in ("values", "mismatches")]
        rows.append((f"{title} (`{own[0]['versions'][0]}`)", operators, modes, *counts))
    return markdown_table(("oracle", "operators", "modes", "values", "mismatches"), rows)


# The README


def accuracy() -> str:
    """The README's accuracy table, as benchmarks/silero_accuracy.py measured it."""
    results = json.loads(ACCURACY.read_text(encoding="utf-8"))
    rows = []
    for name, figures in results["rows"].items():
        agreement, unsure = (figures[key]["integer"] for key in ("agreement", "unsure_agreement"))
        shares = [f"{100 * share:.2f} %" for share in (agreement, unsure)]
        areas = [f"{figures['auc'][kind]:.4f}" for kind in ("real", "integer")]
        error = f"{figures['mean_absolute_error']['integer']:.4f}"
        rows.append((name, f"{figures['frames']['real']:,}", *shares, error, *areas))
    columns = (
        "",
        "frames",
        "agreement",
        "where the float model is unsure",
        "mean error of p",
        "AUC float",
        "AUC integer",
    )
    drift = results["drift"]
    hour = " and ".join(f"{100 * drift[part]:.2f} %" for part in ("first_five_minutes", "last_five_minutes"))
    return (
        markdown_table(columns, rows)
        + f"\nAn hour without a reset: agreement {hour} in its first and last five minutes.\n"
    )


BLOCKS = {"conformance": conformance, "accuracy": accuracy}


def readme() -> str:
    """The README with its tables renewed; everything else is written by hand."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, make in BLOCKS.items():
        start, end = f"<!-- {name}: written by docs/generate.py -->\n", f"<!-- end of {name} -->\n"
        before, rest = text.split(start)
        text = f"{before}{start}{make()}{end}{rest.split(end)[1]}"
    return text


PAGES = {
    "docs/operators.md": operators,
    "docs/passes.md": passes,
    "docs/targets.md": targets,
    "docs/cli.md": cli,
    "docs/recipes.md": recipes,
    "docs/oracles.md": oracles,
    "README.md": readme,
}


def stale() -> list[str]:
    """Pages that differ from what the code says now."""
    return [
        name
        for name, make in PAGES.items()
        if not (ROOT / name).is_file() or (ROOT / name).read_text("utf-8") != make()
    ]


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    found = stale()
    for name in found:
        if not arguments:
            (ROOT / name).write_text(PAGES[name](), encoding="utf-8")
        print(f"{'stale' if arguments else 'wrote'} {name}")
    return int(bool(found and arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
