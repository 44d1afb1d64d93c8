"""nnaq's own rows, from the same exchange: `.venv/bin/python benchmarks/peers/nnaq_rows.py DETECTOR.onnx`.

Schemes as the peers', and besides `auto`: activations of 8 bits raised to 16 where the recipe's goal asks
for it; `feedback`: what rounding one column of weights costs is made good in the next ones, by calibration
data; `palette`: weights at rest as 4-bit indices into one table per tensor; `palette feedback`: into one per
channel, weighted by activations, and error feedback after it; `palette BITS A16`: the weights of the
codebook comparison, and activations wide enough to show nothing else. The recipes are the shipped ones;
whatever the scheme, they keep the inputs of the models and the detector's last score and its probability
in 16 bits (`silero_core.toml` is the detector's for `silero_core`).
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from exchange import BITS, PLACE, SETS, Arrays, attempt, load, recordings, weights_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from speaker import EXAMPLE, PER_RECORDING, integer_embeddings
from voice_encoder import VoiceEncoder

import nnaq
from nnaq.codebooks.choice import PaletteChoice
from nnaq.crossing import Lowering, outputs_of
from nnaq.quantize.recipe import Override, Recipe, load_recipe

HERE = Path(__file__).resolve().parent
RECIPES = {
    "silero": "silero_vad",
    "silero_core": str(HERE / "silero_core.toml"),
    "voice": "voice_encoder",
}
PORTS = {"silero": ("input", "speech_probs"), "silero_core": ("x", "y")}
SCHEMES = {
    "W8A8": {"activations": "8"},
    "W4A8": {"activations": "8", "weight_bits": 4},
    "W8A16": {"activations": "16"},
    "W8A8 auto": {"activations": "auto"},
    "W4A8 auto": {"activations": "auto", "weight_bits": 4},
    "W4A8 palette": {"activations": "8"},
    "W4A8 palette auto": {"activations": "auto"},
    "W8A8 feedback": {"activations": "8", "repair": ["error_feedback"]},
    "W8A16 feedback": {"activations": "16", "repair": ["error_feedback"]},
    "W4A8 feedback": {"activations": "8", "weight_bits": 4, "repair": ["error_feedback"]},
    "W4A8 feedback auto": {"activations": "auto", "weight_bits": 4, "repair": ["error_feedback"]},
    "W4A8 palette feedback": {"activations": "8", "repair": ["error_feedback"]},
    "W4A8 palette feedback auto": {"activations": "auto", "repair": ["error_feedback"]},
    **{f"palette {bits} A16": {"activations": "16"} for bits in BITS},
}
TRAINED = "(?!stft|output).*"  # the weights of codebook_exchange.py, by nnaq's names


def recipe_of(model: str, scheme: str) -> Recipe:
    """The shipped recipe with the scheme's widths."""
    recipe = load_recipe(RECIPES[model]).merged(**SCHEMES[scheme])
    if scheme.startswith("palette"):
        choice = PaletteChoice(int(scheme.split()[1]))
        return replace(recipe, overrides=(Override(regex=TRAINED, palette=choice),))
    if "palette feedback" in scheme:
        return recipe.with_palettes(PaletteChoice(4, "per_channel", weighting="activations"))
    return recipe.with_palettes(PaletteChoice(4)) if "palette" in scheme else recipe


def encoder(data: Arrays) -> VoiceEncoder:
    """The voice encoder with the exchange's weights."""
    held = {name: torch.tensor(array) for name, array in weights_of(data).items()}
    named = {f"linear.{part}": held[f"linear.{part}"] for part in ("weight", "bias")}
    parts = {"weight_ih": "input", "weight_hh": "recurrent", "bias_ih": "bias", "bias_hh": "no_bias"}
    for layer in range(3):
        named |= {f"lstm{layer}.{ours}_l0": held[f"lstm.{layer}.{theirs}"] for ours, theirs in parts.items()}
    made = VoiceEncoder()
    made.load_state_dict(named)
    return made.eval()


def windows(data: Arrays) -> Iterator[dict[str, np.ndarray]]:
    """The calibration windows of the voice encoder, some at a time."""
    series = np.stack(recordings(data, "calibration"))
    for start in range(0, len(series), PER_RECORDING):
        yield {"mels": series[start : start + PER_RECORDING]}


def lowered(model: str, scheme: str, file: Path, data: Arrays) -> Lowering:
    """The model as integers, calibrated on the exchange's data; `file` is the whole detector's."""
    recipe = recipe_of(model, scheme)
    if model == "voice":
        calibration = list(windows(data))
        return nnaq.lower(encoder(data), EXAMPLE, calibration, calibration[:1], recipe, outputs=["embedding"])
    if model == "silero_core":
        file = PLACE / "silero_core-sequence.onnx"
    calibration = [{PORTS[model][0]: one} for one in recordings(data, "calibration")]
    return nnaq.lower(file, calibration=calibration, evaluation=calibration[:1], recipe=recipe)


def work(model: str, scheme: str, file: Path) -> tuple[Arrays, str]:
    """Lower and run; what is left in float are the islands."""
    data = load(model)
    crossing = lowered(model, scheme, file, data).crossing
    if model == "voice":
        outputs = {"test": integer_embeddings(crossing.integer, np.stack(recordings(data, "test")))}
    else:
        read, written = PORTS[model]
        fed = {which: [{read: one} for one in recordings(data, which)] for which in SETS[model]}
        outputs = {which: outputs_of(crossing.integer, one)[written] for which, one in fed.items()}
    raised = ", ".join(r.value for r in crossing.raises)
    islands = ", ".join(crossing.islands) or "nothing"
    return outputs, islands + (f" (raised to 16 bits: {raised})" if raised else "")


def main() -> None:
    """All schemes of the models asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("detector", type=Path)
    parser.add_argument("--models", nargs="+", default=list(RECIPES))
    parser.add_argument("--schemes", nargs="+", default=list(SCHEMES))
    given = parser.parse_args()
    for model in given.models:
        # the codebook comparison is about the whole detector and the encoder
        books = model == "silero_core"
        for scheme in [one for one in given.schemes if not (books and one.startswith("palette"))]:
            attempt(
                "nnaq", ["nnaq"], model, "sequence", scheme,
                lambda model=model, scheme=scheme: work(model, scheme, given.detector),
            )  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
