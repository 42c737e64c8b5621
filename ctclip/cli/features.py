"""``ctclip features``: does an encoder see the same in a noisy image as in a clean one?"""

from __future__ import annotations

import logging
from pathlib import Path

import typer

from ctclip.cli.console import plain_console
from ctclip.cli.exit_codes import one_line_errors
from ctclip.cli.options import Quiet, path
from ctclip.model_names import DEFAULT_MODEL, NATURAL_MODEL


def features(
    source: Path = typer.Argument(
        ..., parser=path, metavar="SRC", help="Folder of photographs, a DICOM series or a CT volume."
    ),
    output: Path = typer.Option(..., parser=path, help="Folder for features.md, .csv, .json and .png."),
    encoder: list[str] = typer.Option(
        [NATURAL_MODEL, DEFAULT_MODEL, "random"],
        help="Model, checkpoint, RN50:WEIGHTS, timm:MODEL:WEIGHTS or random; repeatable.",
    ),
    noise: list[str] = typer.Option(
        [], help="As for 'benchmark natural'; for CT white:SD and correlated:SD in HU. Default: a choice of all."
    ),
    images: int = typer.Option(20, min=2, help="Images or slices, evenly spread."),
    quiet: Quiet = False,
) -> None:
    """Cosine similarity and CKA of an encoder's features: clean against noisy, next to different images.

    Features that are as alike for different images as for clean and noisy ones say nothing about robustness.
    """
    console = plain_console(quiet=quiet)
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(message)s")
    with one_line_errors():
        from ctclip.cli.progress import cell_progress
        from ctclip.errors import DataError
        from ctclip.features.encoders import encoder_of
        from ctclip.features.report import markdown, write_report
        from ctclip.features.sources import (
            holds_images,
            noise_for_ct,
            noise_for_photographs,
            read_ct,
            read_photographs,
        )
        from ctclip.features.study import compare_features, middle_parts

        if not source.exists():
            raise DataError(f"no such file or folder: {source}")
        wanted = [each for text in noise for each in text.split()]
        photographs = holds_images(source)
        noises = noise_for_photographs(wanted) if photographs else noise_for_ct(wanted)
        encoders = {text: encoder_of(text) for text in encoder}
        parts = middle_parts(read_photographs(source, images) if photographs else read_ct(source, images))
        rows = []
        with cell_progress(console) as bar:
            task = bar.add_task("comparing", total=len(encoders) * len(noises) * len(parts))
            for text, module in encoders.items():
                rows += compare_features(_label(text), module, parts, noises, lambda: bar.advance(task))
        write_report(rows, len(parts), output)
        console.print(markdown(rows), markup=False, soft_wrap=True)


def _label(text: str) -> str:
    """Without the folders of weights files."""
    return ":".join(Path(part).name for part in text.split(":"))
