"""Dialogues for tests, in the public layout: short answers that the question before explains."""

import json
from itertools import product

DATES, NUMBERS = ("monday", "sunday", "friday"), ("6", "7", "16")


def turn(tokens, slots=(), acts=("INFORM",), asked=(), intents=()):
    """A turn; slots: (name, start, end); asked: slots that the assistant requests."""
    return {
        "system_acts": [{"type": "REQUEST", "slot": slot} for slot in asked],
        "system_utterance": {"tokens": ["which", *asked, "?"] if asked else []},
        "user_utterance": {
            "tokens": tokens.split(),
            "slots": [{"slot": name, "start": a, "exclusive_end": b} for name, a, b in slots],
        },
        "user_acts": [{"type": act} for act in acts],
        "user_intents": list(intents),
    }


def dialogue(date, number):
    """Three turns; `number` is of tickets after one question, and a time after another."""
    return {
        "dialogue_id": f"{date}-{number}",
        "turns": [
            turn(f"tickets for {date} .", [("date", 2, 3)], (), intents=["BUY"]),
            turn(number, [("num_tickets", 0, 1)], asked=["num_tickets"]),
            turn(f"{number} pm", [("time", 0, 2)], ("AFFIRM", "INFORM"), asked=["time"]),
        ],
    }


def write_dialogues(folder):
    """train.json, dev.json and test.json in a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    made = [dialogue(*pair) for pair in product(DATES, NUMBERS)]
    for name, part in (("train", made), ("dev", made[:2]), ("test", made[2:5])):
        (folder / f"{name}.json").write_text(json.dumps(part))
    return folder
