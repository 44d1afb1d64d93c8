"""The pages of docs/ that follow from the code, and the tables of the README.

python docs/generate.py            write them
python docs/generate.py --check    write nothing; exit 1 and name every stale page
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs"))
from pages import (  # noqa: E402
    claims,
    command_line,
    contextual_slu,
    dialogue_acts,
    evidence,
    exports,
    latency,
    operators,
    passes,
    recipes,
    recognition,
    targets,
)

PAGES = {
    "docs/operators.md": operators.operators,
    "docs/passes.md": passes.passes,
    "docs/targets.md": targets.targets,
    "docs/latency-model.md": latency.latency_model,
    "docs/cli.md": command_line.cli,
    "docs/recipes.md": recipes.recipes,
    "docs/recognition.md": recognition.recognition,
    "docs/dialogue-acts.md": dialogue_acts.dialogue_acts,
    "docs/contextual-slu.md": contextual_slu.contextual_slu,
    "docs/claims.md": claims.claims,
    "docs/exports.md": exports.exports,
    "docs/oracles.md": evidence.oracles,
    "README.md": evidence.readme,
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
