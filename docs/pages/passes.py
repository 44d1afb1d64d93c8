"""The page of passes, from the pipeline and the docstrings of passes/."""

import dataclasses
import inspect
import re
from importlib import import_module
from textwrap import dedent
from typing import Any

from nnaq.passes import PIPELINE, STREAM
from pages.markdown import docstring, fenced, heading, markdown_table


def passes() -> str:
    lead = dedent("""\
        The pipeline, in order. A pass takes a frozen graph and returns a new one, says what it keeps, and
        can be held to that by the manager (`nnaq lower --dump` writes the graph after each).
        [examples/write_a_pass.py](../examples/write_a_pass.py) is a pass of one's own. The last row is no
        part of the pipeline: it makes another graph of what the pipeline leaves (`nnaq.passes.STREAM`).
        """)
    numbered = [(str(n), s) for n, s in enumerate(PIPELINE, 1)] + [("", s) for s in STREAM]
    rows = [(n, f"[`{s.made_by.name}`](#{s.made_by.name})", s.made_by.keeps, s.reason) for n, s in numbered]
    manager = import_module("nnaq.passes.manager")
    parts = [
        heading("Passes", lead),
        markdown_table(("", "pass", "keeps", "why it stands here"), rows),
        f"\n## What a pass keeps\n\n{fenced(docstring(manager))}",
    ]
    for made_by in dict.fromkeys(step.made_by for step in (*PIPELINE, *STREAM)):
        module = import_module(made_by.__module__)
        parts.append(f"\n## {made_by.name}\n\n{fenced(docstring(module))}")
        parts.append(f"\n`{made_by.__name__}`: {docstring(made_by).split(chr(10))[0]}\n")
        options = [f"`{f.name}: {spelled(f.type)}`" for f in dataclasses.fields(made_by)]
        parts.append(f"Options: {', '.join(options)}.\n" if options else "No options.\n")
    return "".join(parts)


def spelled(annotation: Any) -> str:
    """A type as one writes it, without the modules it comes from."""
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", inspect.formatannotation(annotation))
