"""What there is: operators, passes, targets."""

import json
from typing import Annotated

import typer

from nnaq.cli.options import (
    AsJson,
    Plugins,
)


def ops(
    plugin: Plugins = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """List the operators: operands, integer forms, formula."""
    import nnaq.kernels  # noqa: F401  (fills the operator table)
    from nnaq.ir.op import table

    if as_json:
        rows = {n: {"operands": op.operands, "forms": op.forms, "doc": op.doc} for n, op in table().items()}
        print(json.dumps(rows, indent=2))
        return
    for name, op in table().items():
        print(f"{name}({', '.join(op.operands)})\n    {op.doc}")


def passes(
    plugin: Plugins = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """List the passes in pipeline order: what each keeps, and why it stands where it stands."""
    from nnaq.passes import PIPELINE, steps

    if as_json:
        rows = [
            {"name": s.made_by.name, "keeps": s.made_by.keeps, "reason": s.reason} for s in steps(PIPELINE)
        ]
        print(json.dumps(rows, indent=2))
        return
    for step in steps(PIPELINE):
        print(f"{step.made_by.name:<20} keeps {step.made_by.keeps:<6} {step.reason}")


def targets(
    name: Annotated[str | None, typer.Argument(help="Show this target in full.")] = None,
    plugin: Plugins = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """List the shipped targets, or show one (by name or .toml file) in full."""
    from nnaq.targets import load_target, shipped

    machines = [load_target(n) for n in ([name] if name else shipped())]
    if as_json:
        print(json.dumps({m.name: m.description for m in machines}, indent=2))
    elif name:
        print(machines[0].show())
    else:
        print("\n".join(f"{m.name:<16} {m.description}" for m in machines))
