"""`nnaq transcribe` and `nnaq evaluate`: a lowered recogniser at work, and how well it works."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from nnaq.cli.options import AsJson, at_least
from nnaq.cli.progress import reporting

Lowered = Annotated[Path, typer.Argument(help="A folder that `nnaq lower` made of a recogniser.")]
Judged = Annotated[
    Path, typer.Argument(help="A folder that `nnaq lower` made of a recogniser or a model of dialogues.")
]
Beam = Annotated[
    int,
    typer.Option("--beam", callback=at_least(1), help="Hypotheses that a search keeps; 1 is greedy search."),
]


def transcribe(
    lowered: Lowered,
    audio: Annotated[list[Path], typer.Argument(help="Recordings, .wav or .flac, mono.")],
    beam: Beam = 1,
    chunk: Annotated[
        float,
        typer.Option("--chunk", callback=at_least(0.001), help="Seconds of sound that arrive at a time."),
    ] = 0.1,
    as_json: AsJson = False,
) -> None:
    """Write down what is said in recordings, word by word as the sound goes by.

    Sound is heard in chunks, as a device hears it, by the integers of the lowered model. The words do not
    depend on the size of the chunks. --json tells for each word how much sound had arrived.
    """
    from nnaq.package import open_package
    from nnaq.tasks.recordings import must_be_sound, read_blocks

    package = open_package(lowered)
    transcriber = package.transcriber(beam)
    rate = package.hearing.log_mel.sample_rate
    for path in audio:  # before the first word: headers only, for recordings may last hours
        must_be_sound(path, rate)
    found: dict[str, list[dict[str, Any]]] = {}
    for path in audio:
        if not as_json and len(audio) > 1:
            print(f"{path}: ", end="", flush=True)
        found[str(path)] = words = []
        for word in transcriber.hear(read_blocks(path, rate, max(1, round(chunk * rate)))):
            words.append({"word": word.text, "seconds": word.seconds})
            if not as_json:
                print(word.text, end=" ", flush=True)
        if not as_json:
            print()
    if as_json:
        print(json.dumps(found, indent=2))


def evaluate(
    lowered: Judged,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            help="Folder of recordings and a table of paths and texts (test.tsv), or of dialogues.",
        ),
    ],
    table: Annotated[
        str | None, typer.Option("--table", help="The table's name. Default: test.tsv, or test.json.")
    ] = None,
    beam: Beam = 1,
    as_json: AsJson = False,
) -> None:
    """Count the words that a lowered recogniser gets wrong on recordings whose words are known.

    Tells the word error rate with its 95 % interval (bootstrap over recordings), and how many words were
    put for others, left out, and put in. Recordings whose words are not known are left out. Of a model of
    dialogues it tells errors of words, slots and acts in whole dialogues, heard with simulated noise.
    """
    from nnaq.evaluation import evaluate as judge
    from nnaq.package import open_package
    from nnaq.tasks.understanding import TABLE

    if (lowered / TABLE).is_file():
        _understand(lowered, data / (table or "test.json"), as_json)
        return
    package = open_package(lowered)
    with reporting(quiet=as_json) as reporter:
        found = judge(package, data, table or "test.tsv", beam, reporter)
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
        return
    found.show()


def _understand(lowered: Path, table: Path, as_json: bool) -> None:
    """Errors of a lowered model of dialogues."""
    from nnaq.understanding import evaluate_dialogues

    found = evaluate_dialogues(lowered, table)
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
        return
    found.show()
