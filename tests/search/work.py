"""Work for jobs: functions that worker processes can import."""

import math
import os
import time
from pathlib import Path

from nnaq.errors import DataError


def odd_numbers(context: dict, number: int) -> dict:
    """Results with every kind of float that a journal has to keep."""
    time.sleep(context.get("seconds", 0.0))
    values = [number / 3, math.sqrt(number) * 1e-300, -0.0, math.inf, -math.inf, 0.1 + number]
    return {"number": number, "offset": context["offset"] + number, "values": values, "name": "ü\n\u2028"}


def failing(context: dict, number: int) -> int:
    """Refuses the number that the context names, by an exception of its choice."""
    if number == context["bad"]:
        if context["how"] == "exit":
            os._exit(3)
        raise DataError("no such thing") if context["how"] == "user" else ZeroDivisionError("a bug")
    return number


def counted(context: str, number: int) -> int:
    """Leaves a mark that it has run; tells who ran it."""
    (Path(context) / str(number)).touch(exist_ok=False)
    return number


def worker_id(context: object) -> int:
    """The process that did the job."""
    time.sleep(0.05)
    return os.getpid()


def endless(context: str, number: int) -> int:
    """Tells its process by a file and never returns."""
    (Path(context) / str(os.getpid())).touch()
    time.sleep(600)
    return number


def node_id(context: object, number: int) -> str:
    """The node of a Ray cluster that did the job."""
    import ray

    time.sleep(0.05)
    return str(ray.get_runtime_context().get_node_id())
