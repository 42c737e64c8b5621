"""``ctclip denoise`` of photographs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from ctclip.cli.exit_codes import NOTHING_DONE, SOME_FAILED

if TYPE_CHECKING:
    from ctclip.natural.methods import MethodSpec


def denoise_photographs(
    console: Console, source: Path, target: Path, spec: MethodSpec, strength: float, dry_run: bool, overwrite: bool
) -> None:
    """Denoise an image or a folder of images, each into a file; what fails does not stop the others, and is said on
    stderr when all are done.

    Args:
        console: for what is said.
        source: an image, or a folder of images.
        target: image file or folder.
        spec: of the model.
        strength: 0 to 1.
        dry_run: only say how many.
        overwrite: replace earlier results.

    Raises:
        typer.Exit: with the exit code when some have failed.
    """
    from ctclip.cli.progress import cell_progress
    from ctclip.errors import CtclipError, one_line
    from ctclip.natural.files import denoise_image_file, image_jobs
    from ctclip.natural.methods import make_method
    from ctclip.settings import require_settings

    jobs = image_jobs(source, target, overwrite=overwrite)
    require_settings(model=spec.name, device=spec.device, precision=spec.precision, backend=spec.backend)
    if dry_run:
        console.print(f"Would denoise {len(jobs)} images")
        return
    method = make_method(spec)
    console.print(f"{method.label}: {method.description}")
    failed: list[str] = []
    try:
        with cell_progress(console) as bar:
            for origin, final in bar.track(jobs, description="denoising"):
                try:
                    change = denoise_image_file(origin, final, method, strength=strength)
                except (CtclipError, OSError) as error:
                    failed.append(f"{origin.name}: {one_line(error).removeprefix(f'{origin.name} ')}")
                except MemoryError:
                    failed.append(f"{origin.name}: out of memory; make it smaller, or try another machine")
                else:
                    console.print(f"{final.name}: changed by {change:.1f} of 255 (RMS)")
    finally:  # not below the bar, which takes stderr for its own, or a quiet one drops it
        for line in failed:
            typer.secho(f"ctclip: {line}", fg="red", err=True)
    if failed:
        raise typer.Exit(SOME_FAILED if len(failed) < len(jobs) else NOTHING_DONE)
