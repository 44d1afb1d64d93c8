"""Texts and arrays from outside, read so that no file makes nnaq run code, fill the memory or lose its stack.

What is wrong with a file is a ValueError here, and a sentence that names the file where it is read. Limits
are held before anything is allocated:

    MOST_TEXT    bytes of a TOML or JSON text
    MOST_BYTES   of all arrays in an .npz file together, unpacked
"""

import json
import tomllib
import zlib
from pathlib import Path
from struct import error as StructError
from typing import IO, Any
from zipfile import BadZipFile, ZipFile

import numpy as np

MOST_TEXT = 64 * 2**20
MOST_BYTES = 8 * 2**30
_PACKED = 1032  # deflate makes of one byte so many at most: a directory that claims more is false
# What zipfile, zlib and NumPy raise about a file that is another one, cut short, or has a wrong byte.
_BROKEN = (
    AttributeError, BadZipFile, EOFError, KeyError, MemoryError, NotImplementedError, RuntimeError,
    StructError, SyntaxError, TypeError, UnicodeError, zlib.error,
)  # fmt: skip


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML text. Raises tomllib.TOMLDecodeError, a ValueError.

    >>> parse_toml("a = " + 5000 * "[" + 5000 * "]")
    Traceback (most recent call last):
    tomllib.TOMLDecodeError: brackets are nested too deeply
    """
    _must_be_short(text)
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise tomllib.TOMLDecodeError("brackets are nested too deeply") from None
    except tomllib.TOMLDecodeError:
        raise
    except ValueError as error:  # a number of more digits than Python turns into one, a date that is none
        raise tomllib.TOMLDecodeError(str(error)) from None


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError.

    >>> parse_json(100_000 * "[")
    Traceback (most recent call last):
    ValueError: brackets are nested too deeply
    """
    _must_be_short(text)
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("brackets are nested too deeply") from None


def _must_be_short(text: str | bytes) -> None:
    if len(text) > MOST_TEXT:
        raise tomllib.TOMLDecodeError(f"it has {len(text)} characters, nnaq reads {MOST_TEXT}")


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name. Raises OSError, or ValueError for what is no such file.

    Numbers and texts only; objects, which would have to be unpickled, are refused.
    """
    try:
        with path.open("rb") as opened:
            _must_be_small(opened.name)
            with np.load(opened, allow_pickle=False) as file:
                if not isinstance(file, np.lib.npyio.NpzFile):
                    raise ValueError("it is one array, not an archive of arrays")
                return {name: np.asarray(file[name]) for name in file.files}
    except _BROKEN as error:
        raise ValueError(str(error) or type(error).__name__) from None


def _must_be_small(path: str) -> None:
    """Hold every array's size to what the archive holds of it, and all of them to MOST_BYTES."""
    with ZipFile(path) as archive:
        members = archive.infolist()
        packed, unpacked = (sum(getattr(m, size) for m in members) for size in ("compress_size", "file_size"))
        if unpacked > min(MOST_BYTES, _PACKED * (packed + 1)) or packed > Path(path).stat().st_size:
            raise ValueError(f"it claims to hold {unpacked} bytes, nnaq reads {MOST_BYTES}")
        for member in members:
            with archive.open(member) as file:
                claimed = _claimed(file)
            if claimed > member.file_size:
                raise ValueError(f"{member.filename} claims {claimed} bytes and has {member.file_size}")


def _claimed(file: IO[bytes]) -> int:
    """Bytes of the array that a member begins with, by its header."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    count = 1
    for size in shape:  # whole numbers of Python, which do not wrap
        if size < 0:
            raise ValueError(f"an array of shape {list(shape)}")
        count *= size
    return count * dtype.itemsize
