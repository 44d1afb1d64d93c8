"""The page of oracles, and the tables of the README: what was measured, from its results."""

import json
import sys
from pathlib import Path
from textwrap import dedent

from pages.markdown import ROOT, heading, markdown_table

sys.path.insert(0, str(ROOT / "tests"))  # the comparisons with oracles stand beside the tests that run them
from comparisons import TABLE  # type: ignore[import-not-found]

VECTORS = ROOT / "tests" / "golden" / "oracles" / "index.json"
CONFORMANCE = ROOT / "benchmarks" / "results" / "conformance.json"
ACCURACY = ROOT / "benchmarks" / "results" / "silero_accuracy.json"
ORACLE_NAMES = {"ort": "ONNX Runtime", "tflm": "tflite-micro", "tosa": "TOSA reference model"}


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
