"""Where a key stands in a TOML file: the standard reader forgets the lines."""

import re
from collections import Counter

_HEADER = re.compile(r"\s*(\[+)([^\[\]]+)\]+\s*(?:#.*)?$")  # one way to match: no line takes long
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")

Key = tuple[str, ...]


def key_lines(text: str) -> dict[Key, int]:
    """Line of every table header and key, by its path; the first line is 1, tables of a list are counted.

    >>> key_lines("[[b]]\\nc = 1\\n[[b]]\\nc = 2")[("b", "1", "c")]
    4
    >>> key_lines("a = 1\\n[b]\\nc.d = 2")
    {('a',): 1, ('b',): 2, ('b', 'c', 'd'): 3}
    """
    table: Key = ()
    lines: dict[Key, int] = {}
    lists: Counter[Key] = Counter()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = _parts(header[2])
            if header[1] == "[[":
                lists[table] += 1
                table = (*table, str(lists[table] - 1))
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            lines.setdefault((*table, *_parts(key[1])), number)
    return lines


def line_of(lines: dict[Key, int], path: Key) -> int:
    """Line of `path`, else of the nearest table around it, else 1."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def _parts(key: str) -> Key:
    return tuple(part.strip("\"'") for part in re.findall(r"""[\w-]+|"[^"]*"|'[^']*'""", key))
