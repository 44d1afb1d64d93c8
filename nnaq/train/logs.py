"""The logs of a training: what it found out, never when, so that a resumed run writes the same lines.

    log.jsonl     a line per step that is logged: epoch, step, loss, rate, gradient (its norm);
                  a line per epoch: epoch, step, loss (the mean), dev (its figures), best (whether they are)
    log.csv       a row per epoch, with the figures as columns
    tensorboard/  the same numbers, where it is asked for

Lines are flushed as they are written. A checkpoint keeps the sizes of both files; what a killed run
wrote after its last checkpoint is cut off when it is resumed. TensorBoard is told by `purge_step`.
"""

import csv
import fcntl
import io
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from nnaq.train.settings import TrainingError

FILES = ("log.jsonl", "log.csv")


class Logs:
    """The open logs of a folder, locked against another run: a context manager.

    tensorboard: raises TrainingError where the package is missing.
    """

    def __init__(self, folder: Path, tensorboard: bool = False) -> None:
        self.folder = folder
        self.make_board: Any = _board_maker() if tensorboard else None
        self.board: Any = None

    def __enter__(self) -> "Logs":
        self.lines = _opened(self.folder / FILES[0])
        _lock(self.lines, self.folder)
        self.table = _opened(self.folder / FILES[1])
        return self

    def begin(self, ends: Mapping[str, int], step: int) -> None:
        """Go on where the files had the sizes `ends`, at a step; without sizes they are empty."""
        for file, name in zip((self.lines, self.table), FILES, strict=True):
            end = ends.get(name, 0)
            if os.fstat(file.fileno()).st_size < end:
                raise TrainingError(f"{self.folder / name} is shorter than at the checkpoint; begin anew")
            file.truncate(end)
        if self.make_board is not None:
            purged = step + 1 if step else None
            self.board = self.make_board(str(self.folder / "tensorboard"), purge_step=purged)

    def step(self, row: Mapping[str, Any]) -> None:
        """Write the line of a step."""
        self._line(row)
        self._plot("train", {key: row[key] for key in row if key not in ("epoch", "step")}, row["step"])

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Write the line of an epoch; the first one says which figures are columns."""
        self._line(row)
        flat = {key: value for key, value in row.items() if key != "dev"}
        flat |= {f"dev_{name}": value for name, value in row["dev"].items()}
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if self.table.seek(0, os.SEEK_END) == 0:
            writer.writerow(flat)
        writer.writerow(flat.values())
        _put(self.table, text.getvalue())
        self._plot("dev", row["dev"], row["step"])

    def ends(self) -> dict[str, int]:
        """The sizes of the files, whose contents are on the disk now."""
        for file in (self.lines, self.table):
            os.fsync(file.fileno())
        return {
            name: os.fstat(f.fileno()).st_size
            for name, f in zip(FILES, (self.lines, self.table), strict=True)
        }

    def __exit__(self, *error: object) -> None:
        self.lines.close()
        self.table.close()
        if self.board is not None:
            self.board.close()

    def _line(self, row: Mapping[str, Any]) -> None:
        _put(self.lines, json.dumps(_finite(row)) + "\n")

    def _plot(self, group: str, figures: Mapping[str, float], step: int) -> None:
        if self.board is not None:
            for name, value in figures.items():
                self.board.add_scalar(f"{group}/{name}", value, step)


def refuse_in_use(folder: Path) -> None:
    """Raise TrainingError where another training writes to the folder."""
    path = folder / FILES[0]
    if path.is_file():
        with path.open("rb") as lines:
            _lock(lines, folder)


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("a+b")
    except OSError as error:
        raise TrainingError(f"cannot write {path}: {error.strerror}") from None


def _lock(lines: IO[bytes], folder: Path) -> None:
    """Lock the log. The kernel frees it when the file is closed or the process dies."""
    try:
        fcntl.flock(lines, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lines.close()
        raise TrainingError(
            f"folder {folder} is in use by another training; wait for it, or name another folder"
        ) from None


def _put(file: IO[bytes], text: str) -> None:
    try:
        file.write(text.encode())
        file.flush()
    except OSError as error:
        raise TrainingError(f"cannot write {file.name}: {error.strerror}") from None


def _finite(value: Any) -> Any:
    """JSON knows no infinities: null stands for a figure that is none."""
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def must_have_board(wanted: bool) -> None:
    """Raise TrainingError where a log for TensorBoard is wanted and the package is missing."""
    if wanted:
        _board_maker()


def _board_maker() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise TrainingError(
            "a log for TensorBoard needs the package tensorboard; install it with "
            "`pip install 'nnaq[tensorboard]'`, or set tensorboard = false"
        ) from None
    return SummaryWriter
