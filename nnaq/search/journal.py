"""The journal of a long run: what its finished jobs found, one line each, safe from any kill.

    {"nnaq_journal": 1, "run": {"model": "5f3a…", "recipe": "09cc…", …}}
    {"id": "conv.weight 4 bits", "result": {"noise": 0.0021, "bytes": 1200}}

The first line says whose results these are: a digest of everything that decides them, by part. Every
line is written whole and synced before the run goes on, so that a killed run loses only the jobs it
was at; a torn last line is dropped. JSON only, nothing is ever unpickled; floats are written so that
they read back equal, those that are not finite as NaN, Infinity and -Infinity.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from nnaq.errors import NnaqError
from nnaq.outside import parse_json

Json = None | bool | int | float | str | list[Any] | dict[str, Any]
Identity = Mapping[str, str]

VERSION = 1
KEY = "nnaq_journal"


class JournalError(NnaqError):
    """A journal is another run's, is damaged, is in use or cannot be written."""


def digest(*parts: bytes) -> str:
    """Names bytes: parts that are cut elsewhere have another digest."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "little") + part)
    return found.hexdigest()[:32]


class Journal:
    """Results by job, in memory, and in a file if there is one."""

    def __init__(self, results: dict[str, Json] | None = None, file: IO[bytes] | None = None) -> None:
        self.results: dict[str, Json] = {} if results is None else results
        self._file = file

    def add(self, job: str, text: str) -> None:
        """Keep a result, given as JSON. It is on the disk when this returns."""
        result = json.loads(text)
        _append(self._file, f'{{"id": {json.dumps(job)}, "result": {text}}}\n')
        self.results[job] = result


@contextmanager
def opened(
    path: Path | None, run: Identity, fresh: bool = False, say: Callable[[str], None] = lambda line: None
) -> Iterator[Journal]:
    """The journal of a run, with what is in its file already; without a path it is in memory only.

    run: what decides the results, by part. fresh: forget what the file holds. Raises JournalError for a
    file of another run, a damaged one, one that another process writes or that is no journal.
    """
    if path is None:
        yield Journal()
        return
    with _locked(path) as file:
        yield Journal(_taken_up(file, path, run, fresh, say), file)


def _locked(path: Path) -> IO[bytes]:
    """The file, open and locked. Raises JournalError where another process holds it."""
    while True:
        try:
            file = open(path, "a+b")  # noqa: SIM115 (closed by who asked; "a" creates, never truncates)
        except OSError as error:
            raise JournalError(f"journal {path} cannot be opened: {error.strerror}") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise JournalError(
                f"journal {path} is in use by another run; wait for it, or name another file"
            ) from None
        if _is_at(file, path):
            return file
        # The last holder removed the file between our open and our lock: take the new one.
        file.close()


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Whether the path still names the open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _taken_up(
    file: IO[bytes], path: Path, run: Identity, fresh: bool, say: Callable[[str], None]
) -> dict[str, Json]:
    """The results of a file that is open and locked; afterwards it ends with a whole line."""
    file.seek(0)
    data = file.read()
    whole = data[: data.rfind(b"\n") + 1]
    header = json.dumps({KEY: VERSION, "run": dict(run)})
    if data and not _is_journal(data, whole):
        raise JournalError(f"{path} is no journal of nnaq; name another file")
    if fresh or not whole:
        file.truncate(0)
        _append(file, f"{header}\n")
        return {}
    first, *lines = whole.splitlines()
    _must_be_same(path, parse_json(first), run)
    results = dict(_result(path, number, line) for number, line in enumerate(lines, 2))
    if whole != data:
        say(f"journal {path}: dropped a last line that was cut short; its job runs again")
        file.truncate(len(whole))
    return results


def _is_journal(data: bytes, whole: bytes) -> bool:
    """Whether a file is one of ours, or the torn beginning of one."""
    if not whole:
        start = f'{{"{KEY}": '.encode()
        return data.startswith(start) or start.startswith(data)
    try:
        first = parse_json(whole.splitlines()[0])
    except ValueError:
        return False
    return isinstance(first, dict) and KEY in first


def _must_be_same(path: Path, header: Mapping[str, Any], run: Identity) -> None:
    """Raise JournalError where the file's first line names another run."""
    found = header.get("run")
    if header[KEY] != VERSION or not isinstance(found, dict):
        raise JournalError(
            f"journal {path} has format {header[KEY]!r}, this nnaq writes {VERSION}; start anew with --fresh"
        )
    differ = [part for part in {**run, **found} if run.get(part) != found.get(part)]
    if differ:
        raise JournalError(
            f"journal {path} belongs to another run: {_listed(differ)} not the same; start anew with "
            "--fresh, or name another file"
        )


def _listed(parts: list[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last} are" if first else f"{last} is"


def _result(path: Path, number: int, line: bytes) -> tuple[str, Json]:
    """A job and its result. Raises JournalError for a line that a kill cannot explain."""
    try:
        entry = parse_json(line)
        return str(entry["id"]), entry["result"]
    except (ValueError, KeyError, TypeError):
        raise JournalError(
            f"journal {path} is damaged: line {number} holds no result; start anew with --fresh"
        ) from None


def _append(file: IO[bytes] | None, line: str) -> None:
    if file is None:
        return
    try:
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
        raise JournalError(f"journal {file.name} cannot be written: {error.strerror}") from None
