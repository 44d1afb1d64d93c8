"""Progress bars and lines for people who watch."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnaq.crossing import Reporter


class reporting:
    """Progress bars and lines on standard error, so that --json owns standard output."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet

    def __enter__(self) -> "Reporter":
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from nnaq.crossing import Reporter

        columns = (
            TextColumn("{task.description:<14}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        console = Console(stderr=True, quiet=self.quiet)
        # Bars are for people who watch: in a pipe or a log they would be stray lines.
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self.progress.start()

        def track(items: Iterable[Any], what: str, total: int) -> Iterator[Any]:
            return iter(self.progress.track(items, total=total, description=what))

        return Reporter(
            lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True), track
        )

    def __exit__(self, *error: object) -> None:
        self.progress.stop()
