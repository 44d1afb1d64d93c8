"""`RayExecutor`: the jobs of a search on a Ray cluster, behind the face of `concurrent.futures`.

    ray start --head                       on one machine
    ray start --address=HOST:6379          on the others, each with the same nnaq installed

Each worker is a Ray actor that takes one CPU and does one call at a time. What workers share goes into
Ray's object store once, and from there to every machine once, however many workers and calls there are.
"""

import socket
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from importlib import import_module
from typing import Any

from nnaq.errors import NnaqError

Task = tuple[Future[Any], Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class RayError(NnaqError):
    """Ray is not installed, or no cluster answers."""


class RayExecutor(Executor):
    """Calls on workers of a Ray cluster.

    workers: how many; None for as many as the cluster has CPUs. address: of the cluster; None for the
    one that RAY_ADDRESS names or that runs on this machine, else a new one here. initializer: called
    with `initargs` in every worker before its first call. Where this process was in no cluster, it
    leaves the cluster at shutdown; a new one ends with it.

    Raises RayError where Ray is missing or no cluster answers.
    """

    def __init__(
        self,
        workers: int | None = None,
        address: str | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        self._ray = _ray()
        self._joined = not self._ray.is_initialized()
        if self._joined:
            self._join(address)
        wanted = workers or max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        shared = self._ray.put((initializer, initargs))
        actor = self._ray.remote(num_cpus=1)(_Worker)
        self._workers = [actor.remote(shared) for _ in range(wanted)]
        self._changed = threading.Condition()
        self._idle, self._waiting = list(self._workers), deque[Task]()
        self._closed = False

    def _join(self, address: str | None) -> None:
        try:
            _must_answer(address)
            settings = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
            self._ray.init(address=address, **settings)
        except (OSError, RuntimeError, ValueError, self._ray.exceptions.RayError) as error:
            where = "" if address is None else f" at {address}"
            raise RayError(
                f"no Ray cluster{where}: {error}; start one with `ray start --head`, or leave the address out"
            ) from None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A call on the next worker that is free."""
        with self._changed:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            future: Future[Any] = Future()
            self._waiting.append((future, fn, args, kwargs))
            self._start()
        return future

    def _start(self) -> None:
        """Give waiting calls to idle workers; the caller holds the lock."""
        while self._idle and self._waiting:
            future, *call = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                worker = self._idle.pop()
                made = worker.run.remote(*call).future()
                made.add_done_callback(
                    lambda made, worker=worker, future=future: self._end(worker, future, made)
                )

    def _end(self, worker: Any, future: Future[Any], made: Future[Any]) -> None:
        """A worker has returned: its next call first, then whoever waits for this one."""
        error = made.exception()
        with self._changed:
            self._idle.append(worker)
            self._start()
            self._changed.notify_all()
        if error is None:
            future.set_result(made.result())
        else:
            future.set_exception(self._cause(error))

    def _cause(self, error: BaseException) -> BaseException:
        """What the call has raised, or that its worker is gone."""
        if isinstance(error, self._ray.exceptions.RayTaskError):
            cause = getattr(error, "cause", None)
            return cause if isinstance(cause, BaseException) else error
        return BrokenExecutor(str(error).strip().rpartition("\n")[2])

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers, without `wait` at once; `cancel_futures` drops calls that have not begun."""
        with self._changed:
            self._closed = True
            if cancel_futures or not wait:
                for future, *_ in self._waiting:
                    future.cancel()
                self._waiting.clear()
            if wait:
                self._changed.wait_for(lambda: not self._waiting and len(self._idle) == len(self._workers))
        for worker in self._workers:
            self._ray.kill(worker)
        self._workers, self._idle = [], []
        if self._joined and self._ray.is_initialized():
            self._ray.shutdown()


class _Worker:
    """What runs on the cluster."""

    def __init__(self, shared: tuple[Callable[..., object] | None, tuple[Any, ...]]) -> None:
        initializer, initargs = shared
        if initializer is not None:
            initializer(*initargs)

    def run(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of a call."""
        return function(*args, **kwargs)


def _must_answer(address: str | None) -> None:
    """Raise OSError where nothing listens at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and "/" not in host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


def _ray() -> Any:
    try:
        return import_module("ray")
    except ImportError:
        raise RayError(
            "a search on a cluster needs the package ray; install it with `pip install 'nnaq[distributed]'`, "
            "or search with processes of this machine"
        ) from None
