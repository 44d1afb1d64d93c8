"""Jobs: pure functions of a shared context, run anywhere, each result kept as soon as it is there.

    work(context, *arguments of the job) -> plain data (what JSON can hold)

The context (graphs, recordings) goes to every worker once, when the worker starts; jobs are small. An
executor is anything that is opened like the ones of `concurrent.futures`, with `initializer` and
`initargs`: ProcessPoolExecutor, ThreadPoolExecutor, `RayExecutor`, mpi4py's MPIPoolExecutor.

Results do not depend on who ran a job, on the order in which jobs finished, or on whether a run was
killed and taken up again: every result passes through the text that the journal keeps.
"""

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from typing import TYPE_CHECKING, Any

from nnaq.errors import NnaqError
from nnaq.search.journal import Journal, Json

if TYPE_CHECKING:
    from nnaq.crossing import Reporter

Work = Callable[..., Json]
Pool = Callable[..., Executor]
"""Opens an executor: takes `initializer` and `initargs`."""

AHEAD = 1024  # jobs under way at once: enough to keep an executor busy, few to hold


class JobError(NnaqError):
    """A job failed; its id is in the message."""


Finished = Generator[tuple["Job", str], None, None]


@dataclass(frozen=True)
class Job:
    """`work(context, *arguments)` under a name that is unique in its run. Everything can be pickled."""

    id: str
    arguments: tuple[Any, ...] = ()


def processes(workers: int) -> Pool | None:
    """An executor of that many processes of this machine, each started anew; None for one: this process."""
    if workers < 1:
        raise JobError(f"--jobs takes 1 or more workers, found {workers}")
    if workers == 1:
        return None
    return partial(ProcessPoolExecutor, workers, mp_context=multiprocessing.get_context("spawn"))


class Workers:
    """Those who do `work` on a `context`; a `with` block ends them. They start with the first jobs.

    pool: opens their executor; None runs every job in this process.
    """

    def __init__(self, work: Work, context: object, pool: Pool | None = None) -> None:
        self._work, self._context, self._pool = work, context, pool
        self._name = f"{os.getpid()}-{next(_RUNS)}"
        self._executor: Executor | None = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
        _TAKEN.pop(self._name, None)  # a thread of this process has put it there

    def run(
        self,
        jobs: Sequence[Job],
        journal: Journal | None = None,
        reporter: "Reporter | None" = None,
        what: str = "jobs",
    ) -> dict[str, Json]:
        """The results of all jobs by id, in the order of `jobs`; those the journal has are not run again.

        what: the word beside the progress bar. The first job that fails ends the run, and what has
        finished stays in the journal: an NnaqError becomes a JobError that names the job, any other
        exception gets a note that does. Raises JobError where a worker dies.
        """
        from nnaq.crossing import Reporter  # front-ends and all: workers start without them

        journal, reporter = journal or Journal(), reporter or Reporter()
        ids = [job.id for job in jobs]
        if len(set(ids)) < len(ids):
            raise ValueError("two jobs have the same id")
        left = [job for job in jobs if job.id not in journal.results]
        if left and len(left) < len(jobs):
            reporter.say(f"{what}: {len(jobs) - len(left)} of {len(jobs)} are in the journal already")
        if left:
            with closing(self._finished(left)) as finished:
                for job, text in reporter.track(finished, what, len(left)):
                    journal.add(job.id, text)
        return {name: journal.results[name] for name in ids}

    def _finished(self, jobs: Sequence[Job]) -> Finished:
        """Jobs with their results as JSON, as they finish."""
        if self._pool is not None:
            if self._executor is None:
                arguments = self._name, self._work, self._context
                self._executor = self._pool(initializer=_take, initargs=arguments)
            yield from _completed(self._executor, self._name, jobs)
            return
        for job in jobs:
            with _named(job):
                text = _text(self._work, self._context, job)
            yield job, text


def _completed(executor: Executor, name: str, jobs: Sequence[Job]) -> Finished:
    """Jobs as the executor completes them; never more than AHEAD are under way, none after an error."""
    left, pending = iter(jobs), dict[Future[str], Job]()
    while True:
        for job in islice(left, AHEAD - len(pending)):
            with _named(job):
                pending[executor.submit(_run, name, job)] = job
        if not pending:
            return
        done = wait(pending, return_when=FIRST_COMPLETED).done
        for future in sorted(done, key=lambda f: f.exception() is not None):  # good ones first: they are kept
            job = pending.pop(future)
            with _named(job):
                text = future.result()
            yield job, text


@contextmanager
def _named(job: Job) -> Iterator[None]:
    """Errors name the job they come from."""
    try:
        yield
    except NnaqError as error:
        raise JobError(f"job {job.id!r}: {error}") from error
    except BrokenExecutor as error:
        raise JobError(
            f"a worker died with job {job.id!r} or another one at hand, perhaps for lack of memory "
            f"({error}); run again with fewer --jobs"
        ) from error
    except Exception as error:
        error.add_note(f"in job {job.id!r}")
        raise


# What a worker holds: the work and context of a run, by its name; threads of one process share it.

_RUNS = count()
_TAKEN: dict[str, tuple[Work, object]] = {}


def _take(name: str, work: Work, context: object) -> None:
    """The start of a worker."""
    if multiprocessing.parent_process() is not None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a worker without a traceback
        threading.Thread(target=_end_with_parent, daemon=True).start()
    _TAKEN[name] = work, context


def _end_with_parent() -> None:
    """A run that is killed leaves no worker behind, waiting for jobs that never come."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(name: str, job: Job) -> str:
    return _text(*_TAKEN[name], job)


def _text(work: Work, context: object, job: Job) -> str:
    return json.dumps(work(context, *job.arguments))
