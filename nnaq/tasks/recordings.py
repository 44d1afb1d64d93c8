"""Recordings: audio files (wav, flac) and arrays (npz), found in a folder and read with care.

Audio is never resampled or mixed down: the model would be calibrated on something else than what
the device hears. A file of another rate or with several channels is refused, with the command
that converts it.
"""

import hashlib
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import soundfile

from nnaq.errors import DataError, GraphError
from nnaq.ir.dims import Shape, solve
from nnaq.ir.graph import Graph, Port
from nnaq.ir.types import TensorType, storage
from nnaq.outside import read_npz

AUDIO = (".flac", ".wav")
ENDINGS = (*AUDIO, ".npz")
BLOCK = 2**20  # samples at a time, of a recording that is read whole


@dataclass(frozen=True)
class Recording:
    """One file; `name` is its path below the folder, with `/`."""

    name: str
    path: Path

    @property
    def is_audio(self) -> bool:
        return self.path.suffix.lower() in AUDIO

    @cached_property
    def size(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size

    @cached_property
    def sha256(self) -> str:
        """Digest of the content: the same recording under another name has the same."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def find_recordings(folder: str | Path) -> list[Recording]:
    """All recordings in `folder` and below, sorted by name. Raises DataError if there are none."""
    folder = Path(folder)
    if not folder.is_dir():
        why = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"recordings are read from a folder, but {folder} {why}")
    paths = [path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file()]
    if not paths:
        raise DataError(
            f"folder {folder} holds no recordings; looked for {', '.join(ENDINGS)}, also below it"
        )
    found = [Recording(path.relative_to(folder).as_posix(), path) for path in paths]
    return sorted(found, key=lambda recording: recording.name)


def read_audio(path: Path, sample_rate: int) -> np.ndarray:
    """Mono samples at `sample_rate`, float32 [samples] in [-1, 1).

    Raises DataError for another rate, several channels, an empty or an unreadable file.
    """
    blocks = list(read_blocks(path, sample_rate, BLOCK))
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def read_blocks(path: Path, sample_rate: int, count: int) -> Iterator[np.ndarray]:
    """What `read_audio` reads, `count` samples at a time: memory does not grow with the recording.

    Raises DataError as it does; for samples that are not finite when they are reached.
    """
    must_be_sound(path, sample_rate)
    heard = 0
    try:
        for samples in soundfile.blocks(path, count, dtype="float32"):
            if not np.isfinite(samples).all():
                raise DataError(f"{path} holds samples that are NaN or infinite")
            heard += len(samples)
            yield samples
    except (OSError, soundfile.SoundFileError) as error:
        raise DataError(f"{path} cannot be read as audio: {error}") from None
    if not heard:
        raise DataError(f"{path} holds no samples")


def must_be_sound(path: Path, sample_rate: int) -> None:
    """Raise DataError for a file that is no mono audio at `sample_rate`, by what its header says."""
    if not path.exists():
        raise DataError(f"{path} cannot be read as audio: there is no such file")
    try:
        found = soundfile.info(path)
    except (OSError, soundfile.SoundFileError) as error:
        raise DataError(f"{path} cannot be read as audio: {error}") from None
    rate, channels = found.samplerate, found.channels
    if rate != sample_rate or channels != 1:
        wide = "mono" if channels == 1 else f"{channels} channels"
        raise DataError(
            f"{path}: found {rate} Hz {wide}, the model hears {sample_rate} Hz mono; convert it with "
            f"`ffmpeg -i {path.name} -ac 1 -ar {sample_rate} {path.stem}.{sample_rate}.wav`"
        )
    if not found.frames:
        raise DataError(f"{path} holds no samples")


def read_arrays(path: Path, graph: Graph) -> dict[str, np.ndarray]:
    """The inputs of `graph` from an npz file: one array per input, time first.

    The time axis comes first in the file, whatever axis it is in the model; arrays are returned as
    the model takes them. Raises DataError naming what is missing, too many, misshapen or not finite.
    """
    return _all_fitted(_arrays(path, graph), path, graph)


def read_steps(path: Path, graph: Graph) -> Iterator[dict[str, np.ndarray]]:
    """The inputs of one step after the other, from arrays with one more axis in front, over the steps."""
    arrays = _arrays(path, graph)
    counts = {name: array.shape[0] if array.ndim else 0 for name, array in arrays.items()}
    if len(set(counts.values())) != 1:
        raise DataError(f"{path}: the inputs have different numbers of steps: {counts}")
    for step in range(next(iter(counts.values()))):
        yield _all_fitted({name: array[step] for name, array in arrays.items()}, path, graph)


def _arrays(path: Path, graph: Graph) -> dict[str, np.ndarray]:
    """The arrays of an npz file, which must have the names of the inputs."""
    if not path.is_file():
        raise DataError(f"there is no file {path}; name an npz with one array per input of the model")
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is no npz file; write one with numpy.savez")
    try:
        arrays = read_npz(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as npz arrays: {error}") from None
    names = [port.name for port in graph.inputs]
    if set(arrays) != set(names):
        found = ", ".join(arrays) or "none"
        raise DataError(f"{path}: found arrays {found}; model {graph.name!r} takes {', '.join(names)}")
    return arrays


def _all_fitted(arrays: Mapping[str, np.ndarray], path: Path, graph: Graph) -> dict[str, np.ndarray]:
    return {
        p.name: _fitted(arrays[p.name], p, graph.types[p.name], f"{path}: array {p.name!r}")
        for p in graph.inputs
    }


def _fitted(array: np.ndarray, port: Port, kind: TensorType, who: str) -> np.ndarray:
    """The array in the layout and storage of the model's input."""
    try:
        solve(time_first(kind.shape, port.time_axis), array.shape, who)
    except GraphError as error:
        raise DataError(f"{error} (time first)") from None
    if array.dtype.kind not in ("fiub" if kind.dtype == "f32" else "iub"):
        raise DataError(f"{who} holds {array.dtype}, the model takes {kind.dtype}")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
        array = np.asarray(array, storage(kind.dtype))
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(f"{who} holds values that are NaN or infinite")
    if not array.size:
        raise DataError(f"{who} holds no frames")
    moved = array if port.time_axis is None else np.moveaxis(array, 0, port.time_axis)
    return np.ascontiguousarray(moved)


def time_first(shape: Shape, time_axis: int | None) -> Shape:
    """A shape with its time axis moved to the front."""
    axis = time_axis or 0
    return (*shape[axis : axis + 1], *shape[:axis], *shape[axis + 1 :])


def split(
    recordings: Sequence[Recording], fraction: float = 0.2, seed: int = 0
) -> tuple[list[Recording], list[Recording]]:
    """(the rest, held out): about `fraction` of the recordings drawn at random, at least one.

    Copies of one recording stay on one side. Raises DataError where a side would be empty.
    """
    groups = list(_copies(recordings))
    if len(groups) < 2:
        raise DataError(
            f"holding recordings out needs at least 2 different ones, found {len(groups)}; "
            "add recordings or judge on another folder (--evaluate)"
        )
    count = min(max(round(fraction * len(groups)), 1), len(groups) - 1)
    drawn = set(np.random.default_rng(seed).permutation(len(groups))[:count].tolist())
    held_out = {recording for number in drawn for recording in groups[number]}
    return [r for r in recordings if r not in held_out], [r for r in recordings if r in held_out]


def refuse_overlap(calibration: Iterable[Recording], evaluation: Iterable[Recording]) -> None:
    """Raise DataError if a recording is in both: accuracy would be measured on what was tuned to."""
    chosen, judged = list(calibration), list(evaluation)
    by_path = {recording.path.resolve(): recording for recording in chosen}
    sizes = {recording.size for recording in chosen}
    digests: dict[str, Recording] = {}
    for recording in judged:
        twin = by_path.get(recording.path.resolve())
        if twin is None and recording.size in sizes:
            # Digests only where a size repeats: large sets are seldom read twice.
            digests = digests or {r.sha256: r for r in chosen}
            twin = digests.get(recording.sha256)
        if twin is not None:
            raise DataError(
                f"recording {recording.path} is also calibrated on (as {twin.path}); "
                "evaluate on recordings the ranges were not chosen from"
            )


def _copies(recordings: Sequence[Recording]) -> Iterator[list[Recording]]:
    """Recordings grouped by content, in order."""
    groups: dict[str, list[Recording]] = {}
    for recording in recordings:
        groups.setdefault(recording.sha256, []).append(recording)
    yield from groups.values()
