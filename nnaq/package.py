"""A lowered recogniser opened again: what `nnaq.packing` wrote, ready to hear.

package = open_package(Path("out"))
transcriber = package.transcriber()
for samples in microphone:                  # float32, any number at a time
    for word in transcriber.feed(samples):
        print(word.text)
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nnaq.errors import DataError
from nnaq.export.read import read_lowered
from nnaq.tasks.hearing import TABLE, Hearing, is_recogniser, read_tables
from nnaq.tasks.transcriber import Transcriber
from nnaq.tasks.transducer_beam import Beam
from nnaq.tasks.transducer_parts import PartGraphs, part_graphs
from nnaq.tasks.transducer_search import Greedy


@dataclass(frozen=True, eq=False)
class Package:
    """A lowered recogniser."""

    graphs: PartGraphs
    hearing: Hearing

    def transcriber(self, beam: int = 1) -> Transcriber:
        """A stream on its integer kernels. beam: hypotheses that are kept; 1: greedy search."""
        search = Greedy if beam == 1 else partial(Beam, width=beam, scale=self.graphs.scale)
        return Transcriber(self.graphs, self.hearing, search)


def is_package(path: Path) -> bool:
    """Whether a folder holds a lowered recogniser, as `nnaq lower` writes it."""
    return (path / TABLE).is_file() and (path / "model.onnx").is_file()


def open_package(folder: Path) -> Package:
    """A package that `nnaq lower` wrote. Raises DataError or ArtifactError."""
    _, hearing = read_tables(folder)
    if is_recogniser(folder):
        raise DataError(
            f"{folder} holds a float recogniser; lower it first: "
            f"`nnaq lower {folder} --calibrate RECORDINGS -o OUT`"
        )
    return Package(part_graphs(read_lowered(folder / "model.onnx")), hearing)
