"""Targets by name: those that ship with nnaq, and files of your own."""

from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from nnaq.errors import TargetError
from nnaq.targets.target import Target

_ADDED: dict[str, Path] = {}


def add_target(path: Path) -> None:
    """Make a target file from outside known by its name. Raises TargetError: no file, or a name taken."""
    if path.suffix != ".toml" or not path.is_file():
        raise TargetError(f"no target file {str(path)!r}; a target is a .toml file")
    if path.stem in shipped():
        raise TargetError(f"there is a target {path.stem!r} already; rename {path}")
    _ADDED[path.stem] = path


def shipped() -> tuple[str, ...]:
    """Names of the targets that ship with nnaq or were added from outside, sorted."""
    found = (Path(entry.name) for entry in files("nnaq.targets").iterdir())
    return tuple(sorted({path.stem for path in found if path.suffix == ".toml"} | _ADDED.keys()))


def load_target(name_or_path: str | Path) -> Target:
    """The shipped target of this name, or the one a `.toml` file describes.

    Raises TargetError: every mistake of the file at once, or the nearest name.
    """
    from nnaq.targets.reader import read_target  # pydantic stays out of the way until a file is read

    path = _ADDED.get(str(name_or_path), Path(name_or_path))
    if path.suffix == ".toml":
        if not path.is_file():
            raise TargetError(f"no target file {str(path)!r}; shipped targets: {', '.join(shipped())}")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise TargetError(f"target file {path} cannot be read: {error}") from None
        return read_target(text, str(path))
    name = str(name_or_path)
    if name not in shipped():
        raise TargetError(_unknown(name))
    return read_target((files("nnaq.targets") / f"{name}.toml").read_text(encoding="utf-8"), f"{name}.toml")


def _unknown(name: str) -> str:
    close = get_close_matches(name, shipped(), n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"shipped targets: {', '.join(shipped())}."
    return f"no target {name!r}; {hint} The name of a file of your own ends in .toml"
