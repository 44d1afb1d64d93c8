"""A process that reads hostile files one after the other, and is watched: time, memory, how it ends.

A case may end in two ways: the file is read, or it is refused with a NnaqError of one or more sentences.
Everything else is a finding: another exception (MemoryError included), more than SECONDS seconds, more than
HEADROOM bytes above what the libraries take, a process that dies.
"""

import faulthandler
import multiprocessing
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from fuzz.formats import FORMATS, case_of

SECONDS = 20  # of processor time: others may have the machine
HEADROOM = 2**30


@dataclass(frozen=True)
class Found:
    """How a case ended: `read`, `refused`, or what went wrong."""

    format: str
    number: int
    outcome: str

    @property
    def is_finding(self) -> bool:
        return self.outcome not in ("read", "refused")


def run_cases(cases: list[tuple[str, int]], seed: int) -> Iterator[Found]:
    """How every case ends; a process that dies is replaced, and the next case goes on."""
    left = list(cases)
    with tempfile.TemporaryDirectory() as folder:
        for format in dict.fromkeys(format for format, _ in cases):
            FORMATS[format].warm(Path(folder))
    while left:
        with tempfile.TemporaryDirectory() as folder:
            told = Path(folder) / "told"
            here, there = multiprocessing.get_context("fork").Pipe()
            worker = multiprocessing.get_context("fork").Process(
                target=_work, args=(there, left, seed, Path(folder), told)
            )
            worker.start()
            there.close()
            yield from _answers(here, left)
            worker.join()
            if left:
                yield Found(*left.pop(0), _death(worker.exitcode, told))


def _answers(line: Connection, left: list[tuple[str, int]]) -> Iterator[Found]:
    """Answers as they come; what has one is taken from `left`."""
    while left:
        try:
            outcome = line.recv()
        except EOFError:
            return
        yield Found(*left.pop(0), outcome)


def _death(code: int | None, told: Path) -> str:
    names = {-signal.SIGKILL: f"more than {SECONDS} s", -signal.SIGXCPU: f"more than {SECONDS} s"}
    where = told.read_text() if told.exists() else ""
    return f"{names.get(code or 0, f'died with exit code {code}')}\n{where}"


def _work(line: Connection, cases: list[tuple[str, int]], seed: int, folder: Path, told: Path) -> None:
    """Answer one case after the other."""
    with told.open("w") as stack:
        faulthandler.enable(stack)
        faulthandler.register(signal.SIGVTALRM, stack, chain=False)
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + HEADROOM, size + HEADROOM))
        for format, number in cases:
            line.send(_outcome(format, number, seed, folder))


def _outcome(format: str, number: int, seed: int, folder: Path) -> str:
    from nnaq.errors import NnaqError

    data = case_of(format, number, seed)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)  # tells where it is; the limit below ends it
    spent = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(spent.ru_utime + spent.ru_stime) + SECONDS + 3
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
    try:
        FORMATS[format].read(data, folder)
        return "read"
    except NnaqError as error:
        return "refused" if str(error).strip() else "a refusal without a word"
    except BaseException:
        return traceback.format_exc(limit=-12)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        sys.stdout.flush()
