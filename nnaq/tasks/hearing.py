"""What stands around a recogniser's network: how sound becomes features, and labels become words.

A table [hearing] of `recogniser.toml` holds it: units with their scores, the sizes of LogMel, mean and
deviation of every feature. NumPy only: a device's host does this, and `nnaq transcribe` needs no torch.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnaq.errors import DataError
from nnaq.outside import parse_toml
from nnaq.tasks.log_mel import LogMel, Normalization
from nnaq.tasks.units import Units

SHIPPED = Path(__file__).parents[1] / "recognisers"
TABLE, WEIGHTS = "recogniser.toml", "weights.safetensors"


@dataclass(frozen=True, eq=False)
class Hearing:
    """Features of a recogniser and its units. reduction: steps of features to one frame of the encoder."""

    units: Units
    log_mel: LogMel
    normalization: Normalization
    reduction: int

    @property
    def samples(self) -> int:
        """Samples to one frame of the encoder: what arrives before the next word can."""
        return self.log_mel.samples_per_step * self.reduction

    @property
    def seconds(self) -> float:
        """Seconds of sound to one frame of the encoder."""
        return self.samples / self.log_mel.sample_rate

    def features(self, audio: np.ndarray) -> np.ndarray:
        """Normalised features float32 [T,F] of a whole recording, silence after it up to whole frames."""
        return self.normalization(self.log_mel(np.pad(audio, (0, -len(audio) % self.samples))))

    def to_table(self) -> dict[str, Any]:
        """Plain data, for TOML."""
        return {
            "reduction": self.reduction,
            "units": {
                "kind": self.units.kind,
                "symbols": list(self.units.symbols),
                "scores": list(self.units.scores),
            },
            "log_mel": asdict(self.log_mel),
            "mean": [float(value) for value in self.normalization.mean],
            "deviation": [float(value) for value in self.normalization.deviation],
        }

    @classmethod
    def from_table(cls, table: Mapping[str, Any], who: str) -> "Hearing":
        """What `to_table` gave. Raises DataError: who, and what does not fit."""
        try:
            units = table["units"]
            with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which is refused
                mean, deviation = (np.asarray(table[key], np.float32) for key in ("mean", "deviation"))
            made = cls(
                Units(units["kind"], tuple(units["symbols"]), tuple(units["scores"])),
                LogMel(**table["log_mel"]),
                Normalization(mean, deviation),
                int(table["reduction"]),
            )
        except (ArithmeticError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{who}: table [hearing] is not as nnaq writes it: {error!r}") from None
        shape = (made.log_mel.features,)
        if (
            mean.shape != shape
            or deviation.shape != shape
            or not _is_sound(mean, deviation)
            or made.reduction < 1
        ):
            raise DataError(
                f"{who}: table [hearing] has {mean.size} means and {deviation.size} deviations for "
                f"{shape[0]} features; expected as many, finite, deviations and reduction above 0"
            )
        return made


def _is_sound(mean: np.ndarray, deviation: np.ndarray) -> bool:
    return bool(np.isfinite(mean).all() and np.isfinite(deviation).all() and (deviation > 0).all())


def recogniser_at(name_or_path: Path) -> Path:
    """The folder of a recogniser that ships with nnaq, by name; a path stays as it is.

    Raises DataError for a bare word that is neither, as a mistyped name is.
    """
    if name_or_path.exists() or name_or_path.suffix or len(name_or_path.parts) != 1:
        return name_or_path
    if is_recogniser(SHIPPED / name_or_path):
        return SHIPPED / name_or_path
    names = sorted(folder.name for folder in SHIPPED.iterdir() if is_recogniser(folder))
    raise DataError(
        f"there is no file or folder {name_or_path}, nor does a recogniser of that name ship with nnaq; "
        f"those that do: {', '.join(names)}"
    )


def is_recogniser(path: Path) -> bool:
    """Whether a folder holds a float recogniser, as training writes it."""
    return (path / TABLE).is_file() and (path / WEIGHTS).is_file()


def read_tables(folder: Path) -> tuple[dict[str, Any], Hearing]:
    """The tables of a folder's recogniser.toml, and the hearing in it. Raises DataError."""
    path = folder / TABLE
    try:
        tables = parse_toml(path.read_text(encoding="utf-8"))
        return tables, Hearing.from_table(tables["hearing"], str(path))
    except FileNotFoundError:
        raise DataError(
            f"{folder} holds no {TABLE}, so it is no recogniser; `nnaq train` makes one"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError) as error:
        raise DataError(f"{path} is not as nnaq writes it: {error!r}") from None


class Ear:
    """Sound in pieces to features in whole frames of the encoder: what a stream hears.

    Features are those of the recording at once, each computed from the same samples.
    """

    def __init__(self, hearing: Hearing) -> None:
        self.hearing = hearing
        log_mel = hearing.log_mel
        reach = log_mel.window - log_mel.hop + (log_mel.stack - log_mel.stride) * log_mel.hop
        self._steps = -(-reach // log_mel.samples_per_step)  # steps that look back into the sound before
        self._sound = np.zeros(0, np.float32)
        self._before = np.zeros(self._steps * log_mel.samples_per_step, np.float32)

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        """Features float32 [T,F] of what is complete with these samples; T is a multiple of the reduction."""
        self._sound = np.concatenate([self._sound, np.asarray(audio, np.float32)])
        whole = len(self._sound) - len(self._sound) % self.hearing.samples
        return self._heard(whole)

    def rest(self) -> np.ndarray:
        """The features of what is left, with silence after it; the ear then begins anew."""
        self._sound = np.pad(self._sound, (0, -len(self._sound) % self.hearing.samples))
        made = self._heard(len(self._sound))
        self._before = np.zeros_like(self._before)
        return made

    def _heard(self, whole: int) -> np.ndarray:
        sound = np.concatenate([self._before, self._sound[:whole]])
        self._sound = self._sound[whole:]
        self._before = sound[len(sound) - len(self._before) :]
        hearing = self.hearing
        return hearing.normalization(hearing.log_mel(sound)[self._steps :])
