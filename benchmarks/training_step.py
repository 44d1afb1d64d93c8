"""How long a step of training takes through the integers, beside torch's own steps of the same model.

    python benchmarks/training_step.py [--rounds 15] [--only WORD ...]

A step is the forward pass, the backward pass for given gradients of the results, inputs included, and a step
of SGD, after which the integers of the weights are made anew. Peers: the float module, and the same module in
torch's own fake quantisation, in the same run, on one thread. Bytes held are those of tensors and arrays that
live from the forward pass to the backward pass, parameters apart.
"""

import argparse
import gc
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from measuring import Here, Timed, circumstances, contest, on_one_thread, write_results
from torch import Tensor, nn
from training_works import MODELS, Model

from nnaq.train.schemes.base import Progress
from nnaq.train.twin import Twin

FLOAT, FAKE = "torch, the float module", "torch, fake_quantize"


def stepping(model: Model, module: nn.Module) -> Callable[[], None]:
    """One step of training."""
    groups = module.parameter_groups(1e-4) if isinstance(module, Twin) else [{"params": module.parameters()}]
    optimiser, x = torch.optim.SGD(groups, lr=1e-4), model.x()
    upstream = torch.full_like(module.train()(x), 1e-3)

    def step() -> None:
        if isinstance(module, Twin):
            module.on_step_begin(Progress(0, 100))
        y = module(x)
        optimiser.zero_grad()
        x.grad = None
        y.backward(upstream)
        if isinstance(module, Twin) and (penalty := module.penalty()).requires_grad:
            penalty.backward()
        optimiser.step()
        if isinstance(module, Twin):
            module.on_step_end(Progress(0, 100))

    return step


def held(module: nn.Module, x: Tensor) -> int:
    """Bytes that wait for the backward pass."""
    found: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = module.train()(x)
    for node in _nodes(y.grad_fn):
        for tensor in _tensors(getattr(node, "__dict__", {})):
            keep(tensor)
    return sum(size for place, size in found.items() if place not in own)


def _nodes(first: Any) -> Iterator[Any]:
    """All nodes of a backward pass."""
    waiting, seen = [first], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            waiting += [one for one, _ in node.next_functions]


def _tensors(thing: Any) -> Iterator[Tensor]:
    """Tensors and arrays inside what a node of nnaq's keeps."""
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, np.ndarray):
        yield torch.from_numpy(thing)
    elif isinstance(thing, dict):
        yield from _tensors(tuple(thing.values()))
    elif isinstance(thing, tuple | list):
        for part in thing:
            yield from _tensors(part)
    elif is_dataclass(thing):
        yield from _tensors(tuple(getattr(thing, one.name) for one in fields(thing)))


def rows_of(model: Model, rounds: int) -> Iterator[dict[str, object]]:
    """Each way of training through integers beside each peer."""
    peers = {FLOAT: (model.module(), model.target)}
    if model.fake is not None:
        peers[FAKE] = (model.fake(), model.fake_target)
    timed: dict[str, Timed] = {name: Here(stepping(model, module)) for name, (module, _) in peers.items()}
    for way, recipe in model.ways.items():
        twin = model.twin(recipe)
        results = contest(Here(stepping(model, twin)), timed, rounds)
        ours = held(twin, model.x())
        for peer, (module, target) in peers.items():
            figures, theirs = results[peer], held(module, model.x())
            met = None if target is None else figures["ratio"] >= target
            named = {"work": f"{model.name}: {way}", "peer": peer, "target": target, "met": met}
            yield {**named, **figures, "held_bytes": ours, "peer_held_bytes": theirs}
        gc.collect()


def main() -> None:
    """Race, print, and write where nothing was left out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="+", default=[], help="words of models")
    given = parser.parse_args()
    on_one_thread()
    torch.set_num_threads(1)
    common = {"threads": 1, "rounds": given.rounds, **circumstances("torch")}
    records = []
    for model in MODELS:
        if given.only and not any(word in model.name for word in given.only):
            continue
        for row in rows_of(model, given.rounds):
            print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
            records.append({**row, **common})
    if not given.only:
        write_results("training_step", records)


if __name__ == "__main__":
    main()
