"""The page of recipes, observers, framing and metrics, from their docstrings."""

from importlib import import_module
from textwrap import dedent

from nnaq.quantize import recipe as recipes_room
from pages.markdown import docstring, fenced, heading


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
