"""``ctclip features``: does an encoder see the same in a noisy image as in a clean one?"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import typer

from ctclip.cli.console import plain_console
from ctclip.cli.exit_codes import one_line_errors
from ctclip.cli.options import Quiet, path
from ctclip.settings import DEFAULT_MODEL, NATURAL_MODEL


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
        from ctclip.features.study import CROP_PX, compare_features, middle_parts, smallest_of

        if not source.exists():
            raise DataError(f"no such file or folder: {source}")
        _require_output(source, output)
        labels = _labels(encoder)
        wanted = [each for text in noise for each in text.split()]
        photographs = holds_images(source)
        noises = noise_for_photographs(wanted) if photographs else noise_for_ct(wanted)
        encoders = {label: encoder_of(text) for label, text in zip(labels, encoder, strict=True)}
        pictures = read_photographs(source, images) if photographs else {}
        found = list(pictures.values()) if photographs else read_ct(source, images)
        parts = middle_parts(found, list(pictures))
        side_px = len(parts[0])
        if side_px < CROP_PX:
            cause = list(pictures)[smallest_of(found)] if photographs else "the slices"
            console.print(f"only the middle {side_px} x {side_px} pixels are compared, for the sake of {cause}")
        rows = []
        with cell_progress(console) as bar:
            task = bar.add_task("comparing", total=len(encoders) * len(noises) * len(parts))
            for label, module in encoders.items():
                rows += compare_features(label, module, parts, noises, lambda: bar.advance(task))
        write_report(rows, len(parts), output, side_px=side_px)
        console.print(markdown(rows, side_px), markup=False, soft_wrap=True)


def _require_output(source: Path, output: Path) -> None:
    """Not :func:`~ctclip.data.folders.require_folders`, which speaks of DICOM and lets nothing lie beside one slice."""
    from ctclip.errors import ConfigError
    from ctclip.files import folders_below, require_no_file_above

    written = Path(os.path.realpath(output))
    if source.is_dir() and written.is_relative_to(os.path.realpath(source)):
        raise ConfigError("the output lies inside the input, which is never modified; choose another folder")
    if any(written.is_relative_to(os.path.realpath(folder)) for folder, _ in folders_below(source)):
        raise ConfigError("a link inside the input leads to the output; remove the link or choose another folder")
    if output.is_file():
        raise ConfigError(f"the output {output} is a file, expected a folder; choose another")
    require_no_file_above(output, "the output")


def _labels(encoders: Sequence[str]) -> list[str]:
    """Names for tables: those of :func:`~ctclip.weights.model_labels`, after what kind of encoder it is."""
    from ctclip.errors import ConfigError
    from ctclip.weights import model_labels

    kinds = ["" if Path(text).is_file() else text.rpartition(":")[0] for text in encoders]
    labels = [""] * len(encoders)
    for kind in kinds:
        alike = [index for index, each in enumerate(kinds) if each == kind]
        names = model_labels([encoders[index].removeprefix(f"{kind}:") for index in alike])
        for index, name in zip(alike, names, strict=True):
            labels[index] = f"{kind}:{name}" if kind else name
    for label in labels:
        if labels.count(label) > 1:
            raise ConfigError(f"two encoders are called {label!r}: rename one file or leave one out")
    return labels
