"""The task that a training's file names, made by its factory `factory(data, seed, **options)`."""

import importlib
import json
import typing
from collections.abc import Callable, Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from nnaq.quantize.recipe_file import hint, listed, said
from nnaq.train.config import Config
from nnaq.train.settings import TrainingError
from nnaq.train.task import Task

TASKS = {
    "an4_words": "nnaq.tasks.spoken_words:make_task",
    "speech": "nnaq.tasks.recognition:make_task",
    "dialogue-acts": "nnaq.tasks.dialogue_acts:make_task",
    "contextual-slu": "nnaq.tasks.contextual_slu:make_task",
}


def make_task(config: Config) -> Task:
    """The task a configuration names, on its data. Raises TrainingError: none, no data, wrong options."""
    factory = _factory(config.task)
    data = Path(config.data)
    if not data.exists():
        raise TrainingError(
            f"there is no data {config.data!r} for task {config.task!r}; say where it is in `data`"
        )
    if (begun := config.recogniser) is not None and "start" not in signature(factory).parameters:
        raise TrainingError(
            f"{begun} is a recogniser, and task {config.task!r} starts from a file of parameters; name "
            "the best.safetensors of a training in `start`"
        )
    task = _called(factory, data, config)
    if not isinstance(task, Task):
        wanted = [name for name in vars(Task) if name[0] != "_" and not hasattr(task, name)]
        raise TrainingError(f"what {config.task!r} makes is no task: it has no {', '.join(sorted(wanted))}")
    if task.goal[1] not in ("min", "max"):
        raise TrainingError(
            f"the goal of task {config.task!r} is {task.goal!r}, expected (figure, 'min' or 'max')"
        )
    return task


def _called(factory: Callable[..., Any], data: Path, config: Config) -> Any:
    """What a factory makes; options that it, or what it hands them on to, does not know are told."""
    told = f"[options] do not suit task {config.task!r}"
    begun = {} if config.recogniser is None else {"start": config.recogniser}
    options, mistakes = _fitted(factory, {**config.options, **begun})
    if mistakes:
        raise TrainingError(listed(told, mistakes))
    try:
        return factory(data, config.training.seed, **options)
    except TypeError as error:
        if not any(f"{name!r}" in str(error) for name in config.options):
            raise
        raise TrainingError(f"{told}: {error}") from None


def _fitted(factory: Callable[..., Any], options: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The options as a factory's annotations want them, and a sentence for each that does not fit its own."""
    try:
        hints = typing.get_type_hints(factory)
    except (NameError, TypeError):  # annotations that only its author's tools can read
        hints = {}
    fitted, mistakes = dict(options), []
    for name in options.keys() & hints.keys():
        try:
            fitted[name] = _value(hints[name], options[name])
        except ValidationError as error:
            mistakes.append(f"{name}: {said(error.errors()[0], ())}")
    return fitted, sorted(mistakes)


def _value(kind: Any, value: Any) -> Any:
    """A value of TOML as one of type `kind`: a text may be a path, a list a tuple, but no text a number."""
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
    except PydanticUserError:  # a class of the task's own: it knows best
        return value
    return adapter.validate_json(json.dumps(value, default=str), strict=True)


def _factory(name: str) -> Callable[..., Any]:
    module, mark, attribute = TASKS.get(name, name).partition(":")
    if not mark:
        raise TrainingError(
            f"no task {name!r}{hint(name, TASKS)}; there are {', '.join(TASKS)}, and your own are written "
            "package.module:factory"
        )
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        raise TrainingError(f"task {name!r}: {error}; install it, or set PYTHONPATH to where it is") from None
    if not callable(found):
        raise TrainingError(f"task {name!r}: module {module} has no function {attribute!r}")
    made: Callable[..., Any] = found
    return made
