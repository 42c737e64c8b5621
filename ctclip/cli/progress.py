"""The progress bars of commands that work slice by slice, or cell by cell of a table."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class SlicesPerSecond(ProgressColumn):
    """Speed of the task since it began; rich's own leaves out what was done until its first report, such as a batch."""

    def render(self, task: Task) -> Text:
        """Text such as "3.1 slices/s"."""
        seconds = task.finished_time or task.elapsed  # the clock of a finished task goes on
        return Text(f"{task.completed / seconds:.1f} slices/s" if task.completed and seconds else "")


def slice_progress(console: Console) -> Progress:
    """A bar with the number of slices, their speed and the time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        SlicesPerSecond(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console)


def cell_progress(console: Console) -> Progress:
    """A bar with the number of cells of a table and the time left."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)
