"""What nnaq sees of the machine it runs on: versions, instructions, threads, cache, what is not installed."""

import os
import platform
import re
import subprocess
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nnaq.errors import ArtifactError, NnaqError

PACKAGES = ("nnaq", "numpy", "numba", "llvmlite", "onnx", "onnxruntime", "torch")
VARIABLES = ("NNAQ_THREADS", "OMP_NUM_THREADS", "OMP_PROC_BIND", "OMP_WAIT_POLICY", "NUMBA_NUM_THREADS")
# What may be missing: the package that tells, how to install it, what it is for.
EXTRAS = {
    "torch": ("torch", "pip install 'nnaq[torch]'", "torch modules"),
    "train": ("safetensors", "pip install 'nnaq[train]'", "nnaq train"),
    "search": ("highspy", "pip install 'nnaq[search]'", "nnaq search --exact"),
    "distributed": ("ray", "pip install 'nnaq[distributed]'", "nnaq search --ray"),
    "tensorboard": ("tensorboard", "pip install 'nnaq[tensorboard]'", "logs of nnaq train"),
    "onnxruntime": ("onnxruntime", "pip install onnxruntime", "the peer of nnaq bench"),
}
DIGEST = re.compile("[0-9a-f]{24}")  # the name of a cache folder
TORCH_THREADS = "import torch; print(torch.get_num_threads())"


@dataclass(frozen=True)
class Cpu:
    """The CPU: its name, how many it has, how many this process may use, and the tiers of kernels.

    tier: the instructions that kernels are made of, None where `fault` says why there is none.
    """

    name: str
    count: int
    usable: int
    tier: str | None
    available: tuple[str, ...]
    fault: str | None = None


@dataclass(frozen=True)
class Threads:
    """What decides how many threads libraries start; None where a variable is not set, torch not there."""

    variables: Mapping[str, str | None]
    numba: int
    torch: int | None


@dataclass(frozen=True)
class Cache:
    """Where compiled kernels are kept. refusal: why they cannot be; older: folders of other builds."""

    folder: str
    refusal: str | None
    files: int
    bytes: int
    older: int
    older_bytes: int


@dataclass(frozen=True)
class Extra:
    """Something optional: its version, None where it is missing, how to get it, and what for."""

    version: str | None
    install: str
    purpose: str


@dataclass(frozen=True)
class Surroundings:
    """All of it, and what to do about it."""

    versions: Mapping[str, str | None]
    cpu: Cpu
    threads: Threads
    cache: Cache
    extras: Mapping[str, Extra]
    advice: tuple[str, ...] = ()


def look() -> Surroundings:
    """Everything as it is now, in this process and in the environment that it passes on."""
    versions = {"python": platform.python_version(), **{name: installed(name) for name in PACKAGES}}
    cpu, threads, cache = see_cpu(), see_threads(versions["torch"] is not None), see_cache()
    extras = {name: Extra(installed(tells), how, why) for name, (tells, how, why) in EXTRAS.items()}
    return Surroundings(versions, cpu, threads, cache, extras, advice(cpu, threads, cache))


def installed(package: str) -> str | None:
    """The version of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def see_cpu() -> Cpu:
    count = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else count
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of a cache that cannot be written: told apart
            from nnaq.kernels.machine.tiers import available, tier

        return Cpu(cpu_name(), count, usable, tier().name, available())
    except NnaqError as error:
        return Cpu(cpu_name(), count, usable, None, (), str(error))


def cpu_name() -> str:
    """The model name of the CPU."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text("utf-8").splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def see_threads(has_torch: bool) -> Threads:
    """Threads of Numba here, and of torch in a process of its own: it is slow to load and starts a pool."""
    from nnaq.jit import threads

    asked = [sys.executable, "-c", TORCH_THREADS]
    said = subprocess.run(asked, capture_output=True, text=True).stdout.strip() if has_torch else ""
    variables = {name: os.environ.get(name) for name in VARIABLES}
    return Threads(variables, threads(), int(said) if said.isdigit() else None)


def see_cache() -> Cache:
    from nnaq.jit import cache_folder, cache_refusal

    folder, refusal = Path(cache_folder()), cache_refusal()
    others = [p for p in folder.parent.glob("*") if DIGEST.fullmatch(p.name) and p != folder]
    files, size = filled(folder)
    return Cache(str(folder), refusal, files, size, len(others), sum(filled(other)[1] for other in others))


def must_keep() -> None:
    """Raise ArtifactError where compiled kernels cannot be kept."""
    from nnaq.jit import cache_folder, cache_refusal

    refusal = cache_refusal()
    if refusal is not None:
        raise ArtifactError(
            f"the cache folder {cache_folder()} cannot be written: {refusal}; set NNAQ_CACHE to one that can"
        )


def filled(folder: Path) -> tuple[int, int]:
    """How many compiled kernels a cache folder holds, and the bytes of all its files."""
    files = [path for path in folder.rglob("*.nb?") if path.is_file()]
    return sum(path.suffix == ".nbc" for path in files), sum(path.stat().st_size for path in files)


def advice(cpu: Cpu, threads: Threads, cache: Cache) -> tuple[str, ...]:
    """What is worth changing, each in a sentence."""
    said, variables = [], threads.variables
    if cache.refusal:
        said.append(
            "kernels are compiled anew in every process: set NNAQ_CACHE to a folder that can be written"
        )
    elif not cache.files:
        said.append("no kernel is compiled yet: `nnaq warm` does so beforehand, once for every build of nnaq")
    if cache.older:
        said.append(
            f"folders of other builds of nnaq stand in {Path(cache.folder).parent}: remove them at will"
        )
    if cpu.usable < cpu.count:
        said.append(f"this process may use {cpu.usable} of {cpu.count} CPUs, by its affinity")
    if variables["OMP_NUM_THREADS"] is None and cpu.usable > 1:
        said.append("processes side by side (nnaq search --jobs, torchrun) want OMP_NUM_THREADS=1 each")
    if variables["OMP_PROC_BIND"] and not variables["NUMBA_NUM_THREADS"] and threads.torch is not None:
        said.append(
            "OMP_PROC_BIND lets torch bind the main thread to one CPU, and Numba then counts one: "
            "set NUMBA_NUM_THREADS too"
        )
    asked = variables["NNAQ_THREADS"]
    if asked and not (asked.isdecimal() and 1 <= int(asked) <= cpu.usable):
        said.append(
            f"NNAQ_THREADS={asked}: large products take 1 thread or more, up to {cpu.usable} of the CPUs here"
        )
    if (variables["OMP_WAIT_POLICY"] or "").upper() == "PASSIVE":
        said.append("OMP_WAIT_POLICY=PASSIVE makes every start of threads slow: unset it")
    if max(threads.numba, threads.torch or 0) > cpu.usable:
        said.append(
            f"more threads than CPUs: set OMP_NUM_THREADS={cpu.usable} NUMBA_NUM_THREADS={cpu.usable}"
        )
    return tuple(said)
