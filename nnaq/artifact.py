"""The output folder: written beside its place, then renamed into it, whole or not at all.

    out.lock        held while a process writes; a second one is refused
    out.tmp-PID     the folder being written
    out.old-PID     the folder being replaced, between two renames

A crash can leave the last two behind; the next run on the same place puts `out.old-PID` back if
`out` is missing, and removes the rest. A folder is only ever replaced if it holds a report.json or
search.json that nnaq wrote.
"""

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np

from nnaq.errors import ArtifactError
from nnaq.interpret import Result
from nnaq.ir.graph import Graph
from nnaq.outside import parse_json, read_npz

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


@contextmanager
def writing(out: str | Path, force: bool = False) -> Iterator[Path]:
    """A fresh folder to write into; at the end of the block it becomes `out`.

    force: replace a folder that nnaq wrote before. On any exception nothing is left behind and
    `out` is as it was. Raises ArtifactError where `out` is in use, is something nnaq did not
    write, or cannot be written.
    """
    out = Path(out).resolve()
    if not out.name:
        raise ArtifactError(f"cannot write to {out}; name a folder")
    with _locked(out):
        _recover(out)
        _check_place(out, force)
        fresh = _beside(out, "tmp")
        try:
            fresh.mkdir()
            yield fresh
            _install(fresh, out)
        except OSError as error:
            if error.errno in FULL:
                raise ArtifactError(f"cannot write {out}: {error.strerror}") from None
            raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def is_written_by_nnaq(folder: Path) -> bool:
    """Whether the folder holds a report.json or a search.json of nnaq."""
    return any(_names_nnaq(folder / name) for name in ("report.json", "search.json"))


def _names_nnaq(path: Path) -> bool:
    """Whether a JSON file says which version of nnaq wrote it."""
    try:
        report = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    versions = report.get("versions") if isinstance(report, dict) else None
    return isinstance(versions, dict) and "nnaq" in versions


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold out.lock. The kernel frees it when a process dies, so a lock never goes stale."""
    path = out.with_name(out.name + ".lock")
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ArtifactError(f"cannot write {out}: {error.strerror} ({path.parent})") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise ArtifactError(
                f"{out} is being written by another process ({path.name} is locked)"
            ) from None
        if _is_same_file(handle, path):
            break
        # The last holder removed the file between our open and our lock: take the new one.
        os.close(handle)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _is_same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _beside(out: Path, kind: str) -> Path:
    return out.with_name(f"{out.name}.{kind}-{os.getpid()}")


def _recover(out: Path) -> None:
    """Finish or undo what a crashed run left; the lock says that nobody is at work here."""
    for path in sorted(out.parent.iterdir()):
        match = re.fullmatch(re.escape(out.name) + r"\.(tmp|old)-\d+", path.name)
        if match is None or path.is_symlink() or not path.is_dir():
            continue
        if match[1] == "old" and not out.exists():
            path.rename(out)
        else:
            shutil.rmtree(path)


def _check_place(out: Path, force: bool) -> None:
    """Raise ArtifactError if `out` must not be replaced."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ArtifactError(f"{out} is a file; name a folder to write to")
    if not any(out.iterdir()):
        return
    if not is_written_by_nnaq(out):
        raise ArtifactError(f"folder {out} is not empty and was not written by nnaq; name another one")
    if not force:
        raise ArtifactError(f"folder {out} holds an earlier result; use --force to replace it")


def _install(fresh: Path, out: Path) -> None:
    """Put `fresh` in the place of `out`, which stays complete at every moment but between two renames."""
    if not out.exists() or not any(out.iterdir()):
        fresh.rename(out)
        return
    old = _beside(out, "old")
    out.rename(old)
    try:
        fresh.rename(out)
    except BaseException:
        old.rename(out)
        raise
    shutil.rmtree(old)


def write_golden(path: Path, graph: Graph, inputs: Mapping[str, np.ndarray], result: Result) -> None:
    """Write golden.npz, the known answers of a lowered model.

    Arrays `input:NAME`, `output:NAME` (time first), `state:NAME` (after the last step) and
    `activation:NAME` (values kept by the run), integers as stored.
    """
    arrays = {f"input:{p.name}": _time_first(inputs[p.name], p.time_axis) for p in graph.inputs}
    arrays |= result_arrays(graph, result)
    arrays |= {f"activation:{name}": array for name, array in result.values.items()}
    _write_npz(path, arrays)


def result_arrays(graph: Graph, result: Result, steps: bool = False) -> dict[str, np.ndarray]:
    """`output:NAME`, time first, and `state:NAME`, as golden.npz and `nnaq run` write them.

    steps: the outputs have one more axis in front, over the steps; time comes second.
    """
    arrays = {
        f"output:{p.name}": _time_first(result.outputs[p.name], p.time_axis, int(steps))
        for p in graph.outputs
    }
    return arrays | {f"state:{name}": array for name, array in result.states.items()}


def stage_text(out: Path, stage: str) -> str:
    """The graph after the pass called `stage`, from an output folder made with --dump; the last of equals.

    Raises ArtifactError that lists the stages there are.
    """
    files = sorted((out / "passes").glob("*.txt"))
    found = {path.stem.partition("-")[2]: path for path in files}
    if not found:
        raise ArtifactError(f"{out} holds no stages; lower with --dump to keep the graph after every pass")
    if stage not in found:
        raise ArtifactError(f"{out} holds no stage {stage!r}; there are {', '.join(found)}")
    return found[stage].read_text(encoding="utf-8")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an .npz under a temporary name and rename it. Raises ArtifactError where that cannot be done."""
    with _renamed(path) as file:
        _write_npz(file, arrays)


def _write_npz(place: Path | IO[bytes], arrays: Mapping[str, np.ndarray]) -> None:
    """As numpy.savez_compressed, at zlib's first level: a twentieth larger, in a quarter of the time."""
    with ZipFile(place, "w", ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)


def write_text(path: Path, text: str) -> None:
    """Write a text under a temporary name and rename it. Raises ArtifactError where that cannot be done."""
    with _renamed(path) as file:
        file.write(text.encode())


@contextmanager
def _renamed(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes its name once it is whole."""
    fresh = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with open(fresh, "wb") as file:
            yield file
        fresh.replace(path)
    except OSError as error:
        raise ArtifactError(f"cannot write {path}: {error.strerror}") from None
    finally:
        fresh.unlink(missing_ok=True)


def read_golden(path: Path, graph: Graph) -> tuple[dict[str, np.ndarray], Result]:
    """Inputs and expected results of `graph`, in the layout the interpreter uses. Raises ArtifactError."""
    try:
        arrays = read_npz(path)
        inputs = {p.name: _time_back(arrays[f"input:{p.name}"], p.time_axis) for p in graph.inputs}
        outputs = {p.name: _time_back(arrays[f"output:{p.name}"], p.time_axis) for p in graph.outputs}
    except KeyError as error:
        raise ArtifactError(f"{path} has no array {error}, which model {graph.name!r} needs") from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read as known answers: {error}") from None
    return inputs, Result(outputs, _part(arrays, "state"), _part(arrays, "activation"))


def _part(arrays: Mapping[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(f"{kind}:"): a for name, a in arrays.items() if name.startswith(f"{kind}:")}


def _time_first(array: np.ndarray, time_axis: int | None, front: int = 0) -> np.ndarray:
    """Time at axis `front`; as many axes that are no part of the port stand before its own."""
    return array if time_axis is None else np.moveaxis(array, front + time_axis, front)


def _time_back(array: np.ndarray, time_axis: int | None) -> np.ndarray:
    return array if time_axis is None else np.moveaxis(array, 0, time_axis)
