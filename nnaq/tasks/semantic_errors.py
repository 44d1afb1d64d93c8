"""What is wrong with the meaning found in an utterance: slots with their values, and the act.

A meaning is a set of slots (name, value) and one act. Slots of one name are held against each other: equal
values are correct (C); of what is left, as many as both sides have are substituted (S), the rest was deleted
(D: in the truth only) or inserted (I: found only). An act counts like one slot that is always there: C or S.

    slot error rate            (S + D + I) / (C + S + D)    over slots alone; 1 means as many errors as slots
    semantic error rate        the same over slots and acts (SemER)
    interpretation error rate  share of utterances with any such error (IRER)

Counts are summed over all utterances and divided at the very end. A value counts word by word: a slot that
is found in the right place with one wrong word is a substitution.

Source: J. Makhoul et al., Performance measures for information extraction, 1999 (slot error rate); SemER and
IRER as usual for voice assistants, in the form of K. Wei et al., arXiv 2112.06743 (reconstruction: that paper
gives no formula we could read).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nnaq.tasks.decoding import NO_ERRORS, Errors


@dataclass(frozen=True)
class Meaning:
    """Slots (name, value), in the order they are said, and an act."""

    slots: tuple[tuple[str, str], ...]
    act: str


def slot_errors(truth: Meaning, found: Meaning) -> Errors:
    """Errors among the slots of one utterance; see the module.

    >>> slot_errors(Meaning((("time", "7 pm"), ("date", "monday")), ""), Meaning((("time", "11 pm"),), ""))
    Errors(substitutions=1, deletions=1, insertions=0, total=2)
    """
    wanted, got = Counter(truth.slots), Counter(found.slots)
    missing = Counter(name for name, _ in (wanted - got).elements())
    surplus = Counter(name for name, _ in (got - wanted).elements())
    substituted = (missing & surplus).total()
    return Errors(substituted, missing.total() - substituted, surplus.total() - substituted, len(truth.slots))


def semantic_errors(truth: Meaning, found: Meaning) -> Errors:
    """Errors among the slots and the act of one utterance.

    >>> semantic_errors(Meaning((), "AFFIRM"), Meaning((("time", "7 pm"),), "INFORM"))
    Errors(substitutions=1, deletions=0, insertions=1, total=1)
    """
    return slot_errors(truth, found) + Errors(int(truth.act != found.act), 0, 0, 1)


def semantic_figures(truths: Sequence[Meaning], found: Sequence[Meaning]) -> dict[str, float]:
    """`semer`, `slot_error_rate`, `irer`, `act_accuracy` over utterances; 0 errors where there are none.

    >>> semantic_figures([Meaning((), "AFFIRM")], [Meaning((), "AFFIRM")])["act_accuracy"]
    1.0
    """
    pairs = list(zip(truths, found, strict=True))
    whole = [semantic_errors(*pair) for pair in pairs]
    return {
        "semer": sum(whole, NO_ERRORS).rate,
        "slot_error_rate": sum((slot_errors(*pair) for pair in pairs), NO_ERRORS).rate,
        "irer": _share(one.errors > 0 for one in whole),
        "act_accuracy": _share(truth.act == got.act for truth, got in pairs),
    }


def _share(flags: Iterable[bool]) -> float:
    seen = list(flags)
    return sum(seen) / max(len(seen), 1)
