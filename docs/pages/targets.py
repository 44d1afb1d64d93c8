"""The page of targets, from the model that reads a target file and the shipped files."""

import json
from collections.abc import Iterator
from importlib import import_module
from textwrap import dedent
from typing import Any

from nnaq.targets import load_target, reader, shipped, tables
from nnaq.targets import target as targets_room
from pages.markdown import ROOT, docstring, fenced, heading, markdown_table


def targets() -> str:
    lead = dedent("""\
        A target is a TOML file: a machine as data, with its numerics contract. `nnaq targets` lists those
        that ship, `nnaq targets edge8` shows one; `--target my_chip.toml` takes one of yours. All mistakes
        of a file are reported at once, with line, key and what to write.
        """)
    room = targets_room
    parts = [heading("Targets", lead), "\n## Keys of the file\n\n", target_keys()]
    parts.append(
        "\nOf `bytes_per_cycle` and `bytes_per_second` a table gives one. The tables `[dma]`, "
        "`[element_passes]`, `[decompression]` and `[energy]` may be left out.\n\n## What the keys mean\n"
    )
    for kind in (room.Target, room.Array, room.Memory, room.Dma, room.Host, room.Decompression, room.Energy):
        parts.append(f"\n`{kind.__name__}`\n\n{fenced(docstring(kind))}")
    simulated = [
        ("bytes at rest", "cost.footprint"),
        ("cycles of an operator", "cost.operator"),
        ("cycles on the array", "cost.array"),
        ("cycles on the host", "cost.host"),
        ("a step", "simulate.machine"),
        ("memory", "schedule.memory"),
        ("energy", "cost.energy"),
    ]
    parts.append(
        "\n## How a step is timed\n\nAn estimate by formula; [latency-model.md](latency-model.md) tells how "
        "far it is from another compiler's estimate, and from a real CPU.\n"
    )
    parts += [f"\n{title}\n\n{fenced(docstring(import_module(f'nnaq.{name}')))}" for title, name in simulated]
    parts.append("\n## Shipped targets\n")
    for name in shipped():
        file = (ROOT / "nnaq" / "targets" / f"{name}.toml").read_text(encoding="utf-8")
        parts.append(f"\n### {name}\n\n{fenced(load_target(name).show())}\n{fenced(file, 'toml')}")
    return "".join(parts)


def target_keys() -> str:
    """Every key of a target file, from the model that reads it."""
    return markdown_table(("key", "", "write"), key_rows(tables.TargetTable, ""))


def key_rows(model: Any, prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, info in model.model_fields.items():
        inner = reader.table_of(info.annotation)
        if inner is not None:
            yield from key_rows(inner, f"{prefix}{name}.")
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
