"""Options of schemes: what each means, what it may be, and one sentence for whoever mistypes it."""

import math
from collections.abc import Mapping
from dataclasses import Field, field, fields
from difflib import get_close_matches
from typing import Any, TypeVar

from nnaq.errors import RecipeError

Chosen = TypeVar("Chosen")


def option(
    default: Any,
    meaning: str,
    low: float | None = None,
    high: float | None = None,
    words: tuple[str, ...] = (),
) -> Any:
    """A field of a dataclass of options: a number within [low, high], a truth value, or one of `words`."""
    return field(default=default, metadata={"meaning": meaning, "low": low, "high": high, "words": words})


def chosen(kind: type[Chosen], scheme: str, given: Mapping[str, Any]) -> Chosen:
    """The options `given` by name, the others at their defaults.

    kind: a dataclass of `option` fields. Whole numbers and truth values are told apart from reals by the
    default. Raises RecipeError for an option that the scheme does not have, and a value it cannot have.
    """
    known = {each.name: each for each in fields(kind)}  # type: ignore[arg-type]
    for name in given:
        if name not in known:
            there = f"there are {', '.join(known)}" if known else "it has none"
            raise RecipeError(f"scheme {scheme!r} has no option {name!r}{_near(name, known)}; {there}")
    return kind(**{name: _value(scheme, known[name], value) for name, value in given.items()})


def _value(scheme: str, each: "Field[Any]", value: Any) -> Any:
    """The value of one option, a whole number where a real is expected made one."""
    words, low, high = (each.metadata[key] for key in ("words", "low", "high"))
    if words:
        if value not in words:
            near = _near(str(value), words)
            raise _refusal(scheme, each.name, f"one of {', '.join(words)}", value, near)
        return value
    if isinstance(each.default, bool):
        if not isinstance(value, bool):
            raise _refusal(scheme, each.name, "true or false", value)
        return value
    number = int if isinstance(each.default, int) else (int, float)
    fits = isinstance(value, number) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or (low is not None and not value >= low) or (high is not None and not value <= high):
        sort = "a whole number" if number is int else "a number"
        least, most = "" if low is None else f", at least {low}", "" if high is None else f", at most {high}"
        raise _refusal(scheme, each.name, f"{sort}{least}{most}", value)
    return value if number is int else float(value)


def _refusal(scheme: str, name: str, expected: str, found: Any, near: str = "") -> RecipeError:
    return RecipeError(f"option {name!r} of scheme {scheme!r} is {expected}; found {found!r}{near}")


def _near(name: str, known: Any) -> str:
    """`; did you mean …` where a known name is near."""
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
