"""Operators, passes and targets from outside: installed packages, and files named by the user.

A package offers them through entry points, whose values are objects, not modules that register
themselves:

    [project.entry-points."nnaq.ops"]
    square_root = "my_package.operators:OP"        # a nnaq.ir.op.Op, or several in a tuple
    [project.entry-points."nnaq.passes"]
    my-pass = "my_package.passes:STEP"             # a nnaq.passes.Step with its place in `after`
    [project.entry-points."nnaq.targets"]
    my-chip = "my_package:TARGET"                  # the path of a target file, .toml

A file given with `--plugin file.py` holds any of OPS (operators), PASSES (steps) and TARGETS (paths
of target files, taken from the file's own folder). Running it is the user's explicit wish; nothing
else from outside is executed.
"""

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from nnaq.errors import NnaqError, PluginError

GROUPS = {"nnaq.ops": "OPS", "nnaq.passes": "PASSES", "nnaq.targets": "TARGETS"}


@cache
def load_installed() -> tuple[str, ...]:
    """Add what installed packages offer, once per process; returns `GROUP: NAME (PACKAGE)` per offer.

    Raises PluginError: an entry point that cannot be imported or offers something else.
    """
    found = [point for group in GROUPS for point in entry_points(group=group)]
    for point in found:
        where = _where(point)
        try:
            offered = point.load()
        except Exception as error:  # a stranger's module may raise anything while it is imported
            raise PluginError(f"{where} cannot be loaded: {type(error).__name__}: {error}") from error
        _add(GROUPS[point.group], offered, where, Path.cwd())
    return tuple(f"{point.group}: {point.name} ({_package(point)})" for point in found)


@cache
def load_file(path: Path) -> None:
    """Run a plugin file, once per process, and add its OPS, PASSES and TARGETS.

    Raises PluginError: no such file, an error inside it, or nothing in it that nnaq knows.
    """
    if not path.is_file():
        raise PluginError(f"no plugin file {str(path)!r}; --plugin takes a Python file")
    spec = spec_from_file_location(f"nnaq_plugin_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise PluginError(f"plugin {path} is no Python file; its name should end in .py")
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise PluginError(f"plugin {path} fails: {type(error).__name__}: {error}") from error
    offers = [name for name in GROUPS.values() if hasattr(module, name)]
    if not offers:
        raise PluginError(f"plugin {path} offers nothing; it should hold {', '.join(GROUPS.values())}")
    for name in offers:
        _add(name, getattr(module, name), f"plugin {path}", path.parent)


def _add(what: str, offered: Any, where: str, folder: Path) -> None:
    """Add one object, or each of a list or plain tuple (a step is a tuple by itself)."""
    several = isinstance(offered, list) or type(offered) is tuple
    for item in offered if several else [offered]:
        try:
            _add_one(what, item, where, folder)
        except PluginError:
            raise
        except NnaqError as error:
            raise PluginError(f"{where}: {error}") from error


def _add_one(what: str, item: Any, where: str, folder: Path) -> None:
    # Imported here: a command that meets no plugin need not wait for the rooms they go to.
    import nnaq.kernels  # noqa: F401  (nnaq's own operators have the first claim to their names)
    from nnaq import passes, targets
    from nnaq.ir.op import Op, register

    if what == "OPS" and isinstance(item, Op):
        register(item)
    elif what == "PASSES" and isinstance(item, passes.Step):
        passes.add(item)
    elif what == "TARGETS" and isinstance(item, str | Path):
        targets.add_target(folder / item)
    else:
        kinds = {"OPS": "an Op", "PASSES": "a Step", "TARGETS": "the path of a .toml file"}
        raise PluginError(f"{where} offers {item!r} among its {what}; expected {kinds[what]}")


def _where(point: EntryPoint) -> str:
    return f"entry point {point.name!r} of {point.group} (package {_package(point)})"


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "unknown"
