"""Modules of other libraries that wait: their code runs when somebody first asks them for something."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType


@contextmanager
def deferred(*names: str) -> Iterator[None]:
    """While this lasts, an import of these modules finds them, but does not run them yet.

    names: absolute, of modules that whoever imports them inside does not use at once. They run whole at
    the first look at any of their attributes, at any time later; a module that is there already stays as
    it is. Up to Python 3.12.2 that first look must not be of two threads at a time.
    """
    finder = _Finder(frozenset(names))
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder(MetaPathFinder):
    """Finds the named modules where Python does, with a loader that waits (importlib.util.LazyLoader)."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in self.names else None
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec
