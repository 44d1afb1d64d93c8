"""Recordings of words that are tones, in folders as the loaders of speech take them."""

import numpy as np
import soundfile

TONES = {"YES": 500, "NO": 1500, "GO": 4000}


def say(text, generator):
    """Words as tones with pauses, in a little noise."""
    pause, length = np.zeros(1600), np.arange(2400) / 16000
    pieces = [piece for w in text.split() for piece in (pause, 0.3 * np.sin(2 * np.pi * TONES[w] * length))]
    sound = np.concatenate([*pieces, pause])
    return sound + 0.003 * generator.normal(size=len(sound))


def write_table(folder, name, speakers, each):
    """A table of AN4's form with its sound."""
    generator, rows = np.random.default_rng(len(speakers)), ["path\tspeaker\tseconds\ttext"]
    for speaker in speakers:
        for number in range(each):
            text, path = _words(generator), f"{speaker}{number}.flac"
            sound = say(text, generator)
            soundfile.write(folder / path, sound, 16000)
            rows.append(f"{path}\t{speaker}\t{len(sound) / 16000:.2f}\t{text}")
    (folder / name).write_text("\n".join(rows) + "\n")


def write_orders(folder, name, count, unsure=0):
    """A table of speech-to-intent's form with its sound; the last `unsure` rows are unsure of their words."""
    generator = np.random.default_rng(count)
    rows = ["path\tseconds\tedit_distance\twords\ttext\tintent\tslots"]
    for number in range(count):
        text, path = _words(generator), f"{name[:2]}{number}.flac"
        sound = say(text, generator)
        soundfile.write(folder / path, sound, 16000)
        distance = 9 if number >= count - unsure else 0
        rows.append(f"{path}\t{len(sound) / 16000:.2f}\t{distance}\t9\t{text.lower()}\torder\t{{}}")
    (folder / name).write_text("\n".join(rows) + "\n")


def write_part(folder, part, speakers, each):
    """A part of LibriSpeech's layout with its sound, one chapter a speaker."""
    for speaker in speakers:
        generator, place, lines = np.random.default_rng(speaker), folder / part / str(speaker) / "7", []
        place.mkdir(parents=True)
        for number in range(each):
            text, name = _words(generator), f"{speaker}-7-{number:04d}"
            soundfile.write(place / f"{name}.flac", say(text, generator), 16000)
            lines.append(f"{name} {text}")
        (place / f"{speaker}-7.trans.txt").write_text("\n".join(lines) + "\n")


def _words(generator):
    return " ".join(generator.choice(list(TONES), generator.integers(1, 4)))


def write_sets(folder):
    """Tables of 40 speakers to train on, and of two others."""
    write_table(folder, "train.tsv", [f"m{n}" for n in range(40)], 5)
    write_table(folder, "test.tsv", ["f0", "f1"], 4)


SMALL = {
    "units": "words",
    "bands": 12,
    "predictor": 16,
    "joint": 24,
    "dropout": 0.0,
    "batch": 6,
    "speeds": (1.0,),
    "frequency_masks": 0,
    "time_masks": 0,
    "size": {"hidden": 24, "layers": 2},
}


def learned(folder, epochs=10, **options):
    """The task on a folder of tones, its module trained until it knows them."""
    import torch

    from nnaq.tasks.recognition import make_task

    task = make_task(folder, seed=0, **{**SMALL, **options})
    optimiser = torch.optim.Adam(task.module.parameters(), 1e-2)
    for epoch in range(epochs):
        for batch in task.batches(epoch, seed=0):
            optimiser.zero_grad()
            task.loss(task.module, batch).backward()
            torch.nn.utils.clip_grad_norm_(task.module.parameters(), 1.0)
            optimiser.step()
    return task
