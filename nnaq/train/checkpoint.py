"""Checkpoints: everything a training is, so that one that was killed goes on bit for bit.

One safetensors file, and nothing in it that could be executed:

    model.NAME           parameters and buffers
    average.NAME         their moving average
    optimizer.N.NAME     the optimiser's tensors of parameter N
    random.GENERATOR     states of the global generators of torch (CPU), NumPy and Python, by replica
    metadata "nnaq"      JSON: format, identity, place, optimiser groups, schedule, ends of the logs

It is written under another name, flushed to the disk, and renamed: at every moment there is the last
whole one. `best.safetensors` is of the same kind and holds parameters and buffers only, under their names.
"""

import json
import os
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from nnaq.train.average import Average
from nnaq.train.replicas import Replicas
from nnaq.train.settings import TrainingError

FORMAT = 1
KEY = "nnaq"
TWIN = "nnaq_"  # begins the names of what a twin has beside its module: schemes and ranges


@dataclass
class Place:
    """Where a training stands: all that the loop counts.

    steps: done in all; position: steps done in this epoch; losses: their sum. best: the goal's figure;
    figures: all of that epoch, known to the first replica; stale: epochs since; seconds: spent so far.
    """

    epoch: int = 0
    position: int = 0
    steps: int = 0
    losses: float = 0.0
    best: float | None = None
    best_epoch: int | None = None
    figures: dict[str, float] = field(default_factory=dict)
    stale: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Parts:
    """What has a state of its own."""

    model: nn.Module
    optimizer: Optimizer
    scheduler: LambdaLR
    average: Average
    replicas: Replicas


def write_checkpoint(
    path: Path, parts: Parts, place: Place, ends: Mapping[str, int], identity: Mapping[str, Any]
) -> None:
    """Write a whole training; every replica takes part, the first one writes.

    ends: sizes of the logs. identity: by which another run is recognised.
    """
    generators = {f"random.{name}": parts.replicas.gathered(t) for name, t in generator_states().items()}
    if not parts.replicas.is_first:
        return
    state = parts.optimizer.state_dict()
    per_parameter = {f"{n}.{key}": v for n, held in state["state"].items() for key, v in held.items()}
    tensors = {f"optimizer.{key}": v for key, v in per_parameter.items() if isinstance(v, Tensor)}
    tensors |= {f"model.{name}": tensor for name, tensor in parts.model.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in parts.average.values.items()}
    facts = {
        "format": FORMAT,
        "identity": dict(identity),
        "replicas": parts.replicas.count,
        "place": asdict(place),
        "groups": state["param_groups"],
        "numbers": {key: v for key, v in per_parameter.items() if not isinstance(v, Tensor)},
        "schedule": parts.scheduler.state_dict(),
        "ends": dict(ends),
    }
    write_tensors(path, tensors | generators, facts)


def read_checkpoint(path: Path, parts: Parts, identity: Mapping[str, Any]) -> tuple[Place, dict[str, int]]:
    """Put a checkpoint into the parts; returns where it stands and the sizes of the logs.

    Raises TrainingError: no such file, no checkpoint, or that of another model, of other settings or of
    another number of replicas; nothing is changed then.
    """
    if not path.is_file():
        raise TrainingError(f"there is no checkpoint {path} to resume from; begin without resuming")
    tensors, facts = read_tensors(path)
    if facts.get("format") != FORMAT or "place" not in facts:
        raise TrainingError(f"{path} is no checkpoint of a training, or that of another version of nnaq")
    found = {**facts["identity"], "replicas": facts["replicas"]}
    _must_be_same(path, found, {**identity, "replicas": parts.replicas.count})
    model = _under("model.", tensors)
    _must_fit(path, model, parts.model)
    parts.model.load_state_dict(model)
    for name, value in _under("average.", tensors).items():
        parts.average.values[name].copy_(value)
    parts.optimizer.load_state_dict(
        {"state": _optimizer_state(tensors, facts), "param_groups": facts["groups"]}
    )
    parts.scheduler.load_state_dict(facts["schedule"])
    generators = _under("random.", tensors)
    set_generators({name: states[parts.replicas.rank] for name, states in generators.items()})
    return Place(**facts["place"]), facts["ends"]


def _optimizer_state(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**facts["numbers"], **_under("optimizer.", tensors)}.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    return state


def write_parameters(path: Path, model: nn.Module) -> None:
    """Write parameters and buffers of a model under their names."""
    write_tensors(path, model.state_dict(), {"format": FORMAT})


def read_parameters(path: Path, model: nn.Module) -> None:
    """Put a file's parameters and buffers into a model; those that only a twin has may be more.

    Raises TrainingError: no such file, no safetensors, or another model's.
    """
    if not path.is_file():
        raise TrainingError(f"there is no file {path} to start from; name a best.safetensors")
    tensors, _ = read_tensors(path)
    own = model.state_dict().keys()
    kept = {name: t for name, t in tensors.items() if name in own or not name.startswith(TWIN)}
    _must_fit(path, kept, model)
    model.load_state_dict(kept)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a safetensors file, whole or not at all. Raises TrainingError where it cannot be written."""
    # Copies: safetensors refuses tensors that share memory, as tied parameters do.
    copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(copies, metadata={KEY: json.dumps(facts)}))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file under another name, flush it to the disk, and rename it.

    The other name is always the same one: a kill leaves at most one such file, and the next write takes it.
    """
    fresh = path.with_name(f".{path.name}.tmp")
    try:
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise TrainingError(f"cannot write {path}: {error.strerror}") from None


def _flush_folder(folder: Path) -> None:
    """The new name reaches the disk too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of a file. Raises TrainingError where it is no safetensors file of nnaq."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            facts = json.loads((file.metadata() or {}).get(KEY, "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise TrainingError(f"{path} cannot be read as a safetensors file: {error}") from None
    return tensors, facts if isinstance(facts, dict) else {}


def generator_states() -> dict[str, Tensor]:
    """The states of the global generators, as tensors of fixed shapes.

    Words of 32 bits are kept in float64, which holds them exactly.
    """
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, words, following = random.getstate()
    numpy_state = [*np.asarray(keys).tolist(), position, has_gauss, gauss]
    python_state = [version, *words, following is not None, following or 0.0]
    return {
        "torch": torch.get_rng_state(),
        "numpy": torch.tensor(numpy_state, dtype=torch.float64),
        "python": torch.tensor(python_state, dtype=torch.float64),
    }


def set_generators(states: Mapping[str, Tensor]) -> None:
    """Put the global generators into the states that `generator_states` gave."""
    torch.set_rng_state(states["torch"].clone())  # a view is read from its start
    *keys, position, has_gauss, gauss = states["numpy"].tolist()
    np.random.set_state(("MT19937", np.array(keys, np.uint32), int(position), int(has_gauss), gauss))
    version, *words, follows, following = states["python"].tolist()
    random.setstate((int(version), tuple(map(int, words)), following if follows else None))


def seed_generators(seed: int, rank: int = 0) -> None:
    """Seed the global generators of this replica."""
    (word,) = np.random.SeedSequence((seed, rank)).generate_state(1)
    torch.manual_seed(int(word))
    np.random.seed(int(word))
    random.seed(int(word))


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _must_be_same(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise TrainingError that names what another run has other than this one."""
    differ = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
    if differ:
        told = ", ".join(_change(key, found.get(key), wanted.get(key)) for key in differ)
        raise TrainingError(
            f"{path} is of another run: {told}; resume with the settings it was made with, or begin anew "
            "without resuming"
        )


def _change(key: str, found: Any, wanted: Any) -> str:
    told = f"{key} was {found!r}, is now {wanted!r}"
    return told if len(told) < 100 else f"{key} has changed"


def _must_fit(path: Path, found: Mapping[str, Tensor], model: nn.Module) -> None:
    """Raise TrainingError where names, shapes or dtypes are not those of the model."""
    wanted = model.state_dict()
    for name in {**wanted, **found}:
        one, other = (_described(tensors.get(name)) for tensors in (found, wanted))
        if one != other:
            raise TrainingError(
                f"{path} is of another model: {name!r} is {one} in the file, {other} in the model"
            )


def _described(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
