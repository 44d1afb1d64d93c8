"""The page of the command line, from the commands themselves."""

import inspect
from textwrap import dedent
from typing import Any

import typer

from nnaq.cli import EPILOG, app
from pages.markdown import heading, markdown_table


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
