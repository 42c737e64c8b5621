from __future__ import annotations

from rich.progress import Progress, Task

from ctclip.cli.progress import SlicesPerSecond


def test_slices_that_come_all_at_once_are_counted_from_the_beginning() -> None:
    seconds = 0.0
    task = Task(0, "denoising", total=8, completed=0, _get_time=lambda: seconds)
    assert SlicesPerSecond().render(task).plain == ""
    task.start_time, task.completed, seconds = 0.0, 8, 4.0
    assert SlicesPerSecond().render(task).plain == "2.0 slices/s"


def test_the_speed_of_a_finished_task_stays() -> None:
    now = 0.0
    progress = Progress(get_time=lambda: now)
    progress.add_task("series 1", total=10)
    (task,) = progress.tasks
    now = 5.0
    progress.update(task.id, completed=10)
    now = 50.0
    assert SlicesPerSecond().render(task).plain == "2.0 slices/s"
