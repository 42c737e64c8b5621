"""``ctclip denoise`` of photographs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from ctclip.cli.console import say_error
from ctclip.cli.exit_codes import exit_code
from ctclip.cli.request import Request

if TYPE_CHECKING:
    from ctclip.natural.methods import MethodSpec


def denoise_photographs(request: Request, spec: MethodSpec) -> None:
    """Denoise an image or a folder of images, each into a file; what fails does not stop the others, and is said on
    stderr when all are done.

    Args:
        request: with an image, or a folder of images, as source.
        spec: of the model.

    Raises:
        typer.Exit: with the exit code when some have failed.
    """
    from ctclip.cli.progress import cell_progress
    from ctclip.errors import CtclipError, one_line
    from ctclip.natural.files import denoise_image_file, image_jobs
    from ctclip.natural.methods import make_method
    from ctclip.settings import require_settings

    jobs = image_jobs(request.source, request.target, overwrite=request.overwrite)
    require_settings(model=spec.name, device=spec.device, precision=spec.precision, backend=spec.backend)
    if request.dry_run:
        request.console.print(f"Would denoise {len(jobs)} images")
        return
    method = make_method(spec)
    request.console.print(f"{method.label}: {method.description}")
    failed: list[str] = []
    try:
        with cell_progress(request.console) as bar:
            for origin, final in bar.track(jobs, description="denoising"):
                try:
                    change = denoise_image_file(origin, final, method, strength=request.strength)
                except (CtclipError, OSError) as error:
                    failed.append(f"{origin.name}: {one_line(error).removeprefix(f'{origin.name} ')}")
                except MemoryError:
                    failed.append(f"{origin.name}: out of memory; make it smaller, or try another machine")
                else:
                    request.console.print(f"{final.name}: changed by {change:.1f} of 255 (RMS)")
    finally:  # not below the bar, which takes stderr for its own, or a quiet one drops it
        for line in failed:
            say_error(line)
    if failed:
        raise typer.Exit(exit_code(failed=len(failed), total=len(jobs)))
