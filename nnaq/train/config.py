r"""The file of a training: what is trained on what, how, and whether through the integers of a target.

    task = "an4_words"              # one that nnaq ships, or "package.module:factory" of your own
    data = "an4"                    # the folder given to the task
    start = "float"                 # a recogniser to go on from, its folder or the name of one that ships,
                                    # or the best.safetensors of a training; without it fresh parameters

    [options]                       # what else the task's factory takes, by name
    units = "words"

    [training]                      # see nnaq.train.settings.Settings
    epochs = 30
    rate = 1e-3
    optimizer = "adamw"             # "adam", "sgd" (with momentum = 0.9)
    weight_decay = 0.0
    schedule = "cosine"             # "constant", "linear"; with warmup = 100 steps, final = 0.0
    accumulate = 1                  # batches per step
    clip = 1.0                      # longest gradient; without it none is too long
    patience = 5                    # epochs without a better figure; without it training never stops early
    average = 0.999                 # decay of a moving average of parameters; without it there is none
    seed = 0
    checkpoint_every = 200          # steps; 0: after every epoch only
    log_every = 10
    tensorboard = false

    [emulation]                     # without it the float model is trained
    recipe = "recipe.toml"          # a recipe that nnaq ships, or a file; "none": the float model
    target = "edge8"

Only `task` and `data` are needed. A factory is called `factory(data, seed, **options)` and returns a
`nnaq.train.task.Task`. Paths are those of the folder in which the command runs.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nnaq.outside import parse_toml
from nnaq.quantize.recipe_file import hint, listed, said
from nnaq.targets.toml_lines import key_lines
from nnaq.tasks.hearing import is_recogniser, recogniser_at
from nnaq.train.settings import Settings, TrainingError

Key = tuple[str, ...]
SHIPPED = Path(__file__).parent / "shipped"
SET = 10**9  # stands for the line of what --set has changed: after all lines


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class Emulation(_Table):
    """Training through the integers of a target, as a recipe chooses them."""

    recipe: str = "none"
    target: str = "edge8"


class Config(_Table):
    """A training, every default filled in; see the module."""

    task: str = Field(min_length=1)
    data: str = Field(min_length=1)
    start: str | None = None
    options: dict[str, Any] = {}
    training: Settings = Settings()
    emulation: Emulation = Emulation()

    @property
    def recogniser(self) -> Path | None:
        """The folder of the recogniser to go on from, where `start` names one. Raises TrainingError."""
        if self.start is None:
            return None
        found = recogniser_at(Path(self.start))
        if found.is_dir() and not is_recogniser(found):
            raise TrainingError(
                f"{found} holds no recogniser to start from; name a folder that `nnaq train` made for task "
                "'speech', or the best.safetensors of another training"
            )
        return found if found.is_dir() else None

    def to_toml(self) -> str:
        """The file that `load_config` reads back equal."""
        return tomli_w.dumps(self.tables())

    def tables(self) -> dict[str, Any]:
        """The tables of the file; what is not set is left out."""
        made = self.model_dump(exclude_none=True)
        return {key: value for key, value in made.items() if value != {}}


def load_config(name_or_path: str | Path, changes: Sequence[str] = ()) -> Config:
    """A configuration that nnaq ships, or a file, with `KEY=VALUE` changes such as `training.epochs=3`.

    Raises TrainingError with all mistakes at once: line, key, what was found and what is expected.
    """
    shipped = shipped_configs()
    path = shipped.get(str(name_or_path), Path(name_or_path))
    if not path.exists():
        raise TrainingError(
            f"config {path} cannot be read: it is neither a file nor one of {', '.join(shipped)}"
            f"{hint(str(path), shipped)}"
        )
    try:
        text = path.read_text(encoding="utf-8")
        tables = parse_toml(text)
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"config {path} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise TrainingError(f"config {path} is no TOML: {error}") from None
    lines = key_lines(text)
    for change in changes:
        lines[_changed(tables, change)] = SET
    try:
        return Config.model_validate(tables)
    except ValidationError as error:
        mistakes = sorted((_mistake(one, lines) for one in error.errors()), key=lambda mistake: mistake[0])
        raise TrainingError(listed(f"config {path}", [told for _, told in mistakes])) from None


def shipped_configs() -> dict[str, Path]:
    """The configurations that come with nnaq, by name: TASK_MODEL."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.toml"))}


def _changed(tables: dict[str, Any], change: str) -> Key:
    """Make one change; returns its key. A value is TOML, and text where it is none."""
    name, mark, value = change.partition("=")
    *outer, last = key = tuple(part.strip() for part in name.split("."))
    if not mark or not all(key):
        raise TrainingError(f"--set takes KEY=VALUE, such as training.epochs=3, found {change!r}")
    table = tables
    for part in outer:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise TrainingError(f"--set {change}: {part!r} is no table")
    try:
        table[last] = parse_toml(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        table[last] = value
    return key


def _mistake(error: Any, lines: Mapping[Key, int]) -> tuple[int, str]:
    """One mistake found by pydantic: its line, and a sentence with place and key."""
    path = tuple(str(part) for part in error["loc"])
    line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), 0)
    place = "" if line == 0 else "--set, " if line == SET else f"line {line}, "
    return line, f"{place}{'.'.join(path)}: {said(error, _keys(path[:-1]))}"


def _keys(path: Key) -> list[str]:
    """The keys a table may have."""
    tables: dict[Key, type[BaseModel]] = {("training",): Settings, ("emulation",): Emulation}
    return list(tables.get(path, Config).model_fields)
