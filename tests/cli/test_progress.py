from __future__ import annotations

from rich.progress import Task

from ctclip.cli.progress import SlicesPerSecond


def test_slices_that_come_all_at_once_are_counted_from_the_beginning() -> None:
    seconds = 0.0
    task = Task(0, "denoising", total=8, completed=0, _get_time=lambda: seconds)
    assert SlicesPerSecond().render(task).plain == ""
    task.start_time, task.completed, seconds = 0.0, 8, 4.0
    assert SlicesPerSecond().render(task).plain == "2.0 slices/s"
