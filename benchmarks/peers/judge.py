"""The figures of all peers, by one judge: `.venv/bin/python benchmarks/peers/judge.py`.

Reads the exchange and writes `results/peers.json` (whole pipelines) and `results/peers_codebooks.json` (the
same weights on codebooks). Every peer is held against the float outputs of the exchange.

Voice detector: `agreement`, the share of frames decided as in float at 0.5, and `sqnr_db` of the
probabilities, clean and at 0 dB. Voice encoder: `equal_error_rate` over all pairs of the test recordings,
the 95 % interval of its distance from float's (`sub8_intervals.py`), and `sqnr_db` of the embeddings of
windows. Codebooks: `weight_sqnr_db` per layer; then the models in float with the palettised weights in
place, and nnaq's integer models (activations of 16 bits) besides.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from codebook_exchange import FOLDER, trained
from exchange import PLACE, SETS, Arrays, evaluate, load
from torch_twins import callable_of, twin

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from sub8_intervals import Trials, resampled_rates
from voice_encoder import utterance_embeddings

from nnaq.tasks.intervals import interval
from nnaq.tasks.metrics import agreement, sqnr_db
from nnaq.tasks.verification import all_trials, equal_error_rate

RESULTS = Path(__file__).resolve().parents[1] / "results"


def figures(model: str, data: Arrays, found: Arrays) -> dict[str, float | None]:
    """How far the outputs of a peer are from the float model's."""
    made: dict[str, float | None] = {}
    for which in SETS[model]:
        exact = data[f"{which}:outputs"]
        made[f"sqnr_db:{which}"] = sqnr_db(exact, found[which]).db
        if model == "voice":
            made["equal_error_rate"] = error_rate(data, found[which])
            if made["equal_error_rate"] is not None:
                low, high = interval(resampled(data, found[which]) - data["float_rates"])
                made |= {"difference_low": low, "difference_high": high}
        else:
            made[f"agreement:{which}"] = agreement(exact, found[which], 0.5)
    return made


def error_rate(data: Arrays, embeddings: np.ndarray) -> float | None:
    """Over all pairs of test recordings; None where an embedding has no direction."""
    if not np.isfinite(embeddings).all() or not np.abs(embeddings).sum(axis=1).all():
        return None
    joined = utterance_embeddings(embeddings, data["test:counts"].tolist())
    return equal_error_rate(*all_trials(joined, data["test:speakers"].tolist()))


def resampled(data: Arrays, embeddings: np.ndarray) -> np.ndarray:
    """The same on resamples of the speakers."""
    joined = utterance_embeddings(embeddings, data["test:counts"].tolist())
    return resampled_rates(Trials.of(joined, data["test:speakers"].tolist()))


def pipeline_rows(held: dict[str, Arrays]) -> list[dict]:
    """A row per attempt of every peer."""
    rows = []
    for file in sorted((PLACE / "rows").glob("*/*.json")):
        row = json.loads(file.read_text())
        if row["failure"] is None:
            row["figures"] = figures(row["model"], held[row["model"]], load_npz(file))
        rows.append(row)
    return rows


def load_npz(file: Path) -> Arrays:
    """The arrays beside a row."""
    with np.load(file.with_suffix(".npz")) as arrays:
        return dict(arrays)


def codebook_rows(held: dict[str, Arrays]) -> list[dict]:
    """A row per peer, granularity and width; figures once computed rest beside the weights."""
    exact = trained()
    rows = []
    for file in sorted(FOLDER.glob("*/*.json")):
        row = json.loads(file.read_text())
        if row["failure"] is None and "figures" not in row:
            weights = load_npz(file)
            row["weight_sqnr_db"] = {name: sqnr_db(exact[name], weights[name]).db for name in exact}
            row["figures"] = {model: in_float(model, held[model], weights) for model in ("silero", "voice")}
            file.write_text(json.dumps(row, indent=1) + "\n")
        print(row["peer"], row["granularity"], row["bits"], row.get("figures"), flush=True)
        rows.append(row)
    return rows


def in_float(model: str, data: Arrays, weights: Arrays) -> dict[str, float | None]:
    """The float model with other weights."""
    mine = {name.split(":")[1]: array for name, array in weights.items() if name.startswith(model)}
    changed = {**data, **{f"weight:{name}": array for name, array in mine.items()}}
    form = "sequence" if model == "voice" else "step"
    return figures(model, data, evaluate(callable_of(twin(model, form, changed)), model, form, data))


def main() -> None:
    """Judge all, print, write."""
    torch.set_num_threads(1)
    held = {model: load(model) for model in SETS}
    held["voice"]["float_rates"] = resampled(held["voice"], held["voice"]["test:outputs"])
    rows = pipeline_rows(held)
    for row in rows:
        label = " ".join(row[name] for name in ("peer", "model", "form", "scheme"))
        print(label, row.get("figures") or row["failure"], row["left_in_float"], flush=True)
    exact = {
        model: {f"{which}": data[f"{which}:outputs"] for which in SETS[model]} for model, data in held.items()
    }
    float_rate = error_rate(held["voice"], exact["voice"]["test"])
    trials = int(len(held["voice"]["test:counts"]) * (len(held["voice"]["test:counts"]) - 1) // 2)
    frames = int(held["silero"]["clean:lengths"].sum())
    people = len(set(held["voice"]["test:speakers"].tolist()))
    about = {"frames": frames, "trials": trials, "speakers": people, "equal_error_rate_of_float": float_rate}
    integer = [row for row in rows if row["scheme"].startswith("palette")]
    whole = [row for row in rows if not row["scheme"].startswith("palette")]
    (RESULTS / "peers.json").write_text(json.dumps({**about, "rows": whole}, indent=1) + "\n")
    books = {**about, "rows": codebook_rows(held), "nnaq_integer": integer}
    (RESULTS / "peers_codebooks.json").write_text(json.dumps(books, indent=1) + "\n")


if __name__ == "__main__":
    main()
