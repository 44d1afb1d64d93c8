"""The files of a model that understands words in their dialogue, and its words; NumPy only.

`nnaq train --task contextual-slu` writes a folder with both, `nnaq lower` one with the table and model.onnx.
"""

import tomllib
from pathlib import Path
from typing import Any

from nnaq.errors import DataError
from nnaq.tasks.lexicon import Lexicon

TABLE, WEIGHTS = "understander.toml", "weights.safetensors"
HEARD = 103  # the seed by which words to be judged on are heard


def is_understander(path: Path) -> bool:
    """Whether a folder holds a float model, as training writes it."""
    return (path / TABLE).is_file() and (path / WEIGHTS).is_file()


def is_lowered_understander(path: Path) -> bool:
    """Whether a folder holds a lowered one."""
    return (path / TABLE).is_file() and (path / "model.onnx").is_file() and not is_understander(path)


def read_tables(folder: Path) -> tuple[dict[str, Any], Lexicon]:
    """The tables of a folder's understander.toml, and the lexicon in it. Raises DataError."""
    path = folder / TABLE
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        return tables, Lexicon.from_table(tables["lexicon"], str(path))
    except FileNotFoundError:
        raise DataError(f"{folder} holds no {TABLE}; `nnaq train --task contextual-slu` makes one") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError) as error:
        raise DataError(f"{path} is not as nnaq writes it: {error!r}") from None
