"""Substitutions, deletions and insertions of random pairs of texts, counted by jiwer.

Half of the found texts are their truths with random edits, the others have nothing to do with them. Few
different words, so that many pairs have several cheapest alignments: the rule by which one of them is
counted is visible. No replica stands beside jiwer: `values_compared` counts what it gave.
"""

import importlib.metadata

import jiwer
import numpy as np
import vectors

WORDS = np.array("A B C AB BA CAB D E ABC BCA".split())
PAIRS = 1000
CHARACTER_PAIRS = 200  # they are longer


def words_of(random, most, kinds):
    return random.choice(WORDS[:kinds], random.integers(0, most + 1)).tolist()


def edited(random, words, kinds):
    """The same with some words left out, replaced, or followed by another one."""
    found = []
    for word in words:
        way = random.integers(0, 10)
        other = random.choice(WORDS[:kinds])
        found += {0: [], 1: [other], 2: [word, other]}.get(int(way), [word])
    return found


def pairs(random, count, most):
    """Texts with one space between words; from 2 to 10 different words per pair."""
    for number in range(count):
        kinds = int(random.integers(2, len(WORDS) + 1))
        truth = words_of(random, most, kinds)
        found = edited(random, truth, kinds) if number % 2 else words_of(random, most, kinds)
        yield " ".join(truth), " ".join(found)


def keep(collector, truth, found, judged):
    """One pair as bytes of ASCII, and its counts."""
    counts = np.array([judged.substitutions, judged.deletions, judged.insertions], np.int32)
    texts = {"truth": truth, "found": found}
    collector.add(
        **{name: np.frombuffer(text.encode("ascii"), np.uint8) for name, text in texts.items()},
        counts=counts,
    )
    collector.values_compared += counts.size


def word_errors(random, collector):
    for truth, found in pairs(random, PAIRS * collector.bulk, 14):
        keep(collector, truth, found, jiwer.process_words(truth, found))


def character_errors(random, collector):
    for truth, found in pairs(random, CHARACTER_PAIRS * collector.bulk, 20):
        keep(collector, truth, found, jiwer.process_characters(truth, found))


OPERATORS = {"word_errors": ("counts", word_errors), "character_errors": ("counts", character_errors)}

if __name__ == "__main__":
    packages = ("jiwer", "rapidfuzz", "numpy")
    versions = {name: importlib.metadata.version(name) for name in packages}
    vectors.run_driver("jiwer", versions, OPERATORS)
