"""``ctclip simulate``: the low-dose partner of a scan."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from ctclip.cli.config_file import typed
from ctclip.cli.console import plain_console, say_error
from ctclip.cli.exit_codes import exit_code, one_line_errors
from ctclip.cli.options import Device, Overwrite, Quiet, path
from ctclip.cli.progress import slice_progress

if TYPE_CHECKING:
    from ctclip.simulation.settings import Settings


def simulate(
    context: typer.Context,
    source: Path = typer.Argument(
        ..., parser=path, metavar="SRC", help="DICOM folder or file, or a NIfTI, NRRD or MHA volume."
    ),
    target: Path = typer.Argument(
        ..., parser=path, metavar="DST", help="Folder for the derived series, or a volume file."
    ),
    dose: float | None = typer.Option(None, help="Fraction of the scan's dose, such as 0.25."),
    noise_sd: float | None = typer.Option(None, help="Instead: SD of the added noise in soft tissue, HU."),
    photons: float | None = typer.Option(None, help="Instead: photons per ray without patient, such as 1e5."),
    domain: str = typer.Option("projection", help="projection (photons, reconstructed), image (NPS-shaped) or white."),
    texture: str = typer.Option("standard", help="smooth, standard or sharp, as of the reconstruction kernel."),
    seed: int = typer.Option(0, min=0, help="Of the noise."),
    series: list[str] = typer.Option([], help="SeriesInstanceUID, repeatable; 'all' adds reformats and projections."),
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Insert the noise of a lower dose into every axial CT series in a folder, or a volume.

    The scan's own noise is measured and counted in. For DICOM, DST/pairs.json names the pairs: 'ctclip evaluate
    DST/pairs.json' judges denoisers on them. Exit codes: 0 all done, 1 nothing done, 2 wrong usage, 3 some series
    failed.
    """
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(message)s")
    logging.getLogger("ctclip").setLevel(logging.WARNING)
    console = plain_console(quiet=quiet)
    with one_line_errors():
        from ctclip.data.volumes import is_volume_file
        from ctclip.devices import find_device
        from ctclip.errors import ConfigError, DataError
        from ctclip.simulation.settings import Amount, Settings

        settings = Settings(Amount(dose, noise_sd, photons), domain, texture, seed, find_device(device))
        if not source.exists():
            raise DataError(f"the input does not exist: {source}")
        if is_volume_file(source):
            if series and typed(context, "series"):  # defaults from a file may be for other input
                raise ConfigError("no effect on a volume: --series; leave it out")
            _volume(console, source, target, settings, overwrite)
        else:
            _dicom(console, source, target, settings, series, overwrite)


def _volume(console: Console, source: Path, target: Path, settings: Settings, overwrite: bool) -> None:
    from ctclip.data.volumes import VOLUME_SUFFIXES, is_volume
    from ctclip.errors import ConfigError
    from ctclip.pipeline.simulate import simulate_volume_file

    if not is_volume(target):
        raise ConfigError(f"the input is a volume, so the output must be one of {', '.join(VOLUME_SUFFIXES)}")
    with slice_progress(console) as bar:
        task = bar.add_task(f"simulating {settings.amount}", total=None)
        simulate_volume_file(
            source,
            target,
            settings,
            overwrite=overwrite,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    console.print(f"low-dose volume: {target}")


def _dicom(
    console: Console, source: Path, target: Path, settings: Settings, wanted: list[str], overwrite: bool
) -> None:
    from ctclip.data.folders import require_folders
    from ctclip.data.pair_list import PAIRS_FILE, earlier_pairs, write_pair
    from ctclip.dicom import derived_series_numbers, scan
    from ctclip.dicom.archive import is_zip
    from ctclip.dicom.derivation import NOISE_INSERTED_BY
    from ctclip.errors import ConfigError, CtclipError, one_line
    from ctclip.pipeline import choose_series
    from ctclip.pipeline.simulate import simulate_series

    require_folders(source, target)
    if is_zip(source):
        raise ConfigError("the input is a zip file; unpack it: the list of pairs names the source's files")
    earlier_pairs(target)  # refuses a file of another kind before anything is done
    found = scan(source)
    chosen = choose_series(found, wanted)
    numbers = derived_series_numbers(found, NOISE_INSERTED_BY)
    failed = 0
    with slice_progress(console) as bar:
        for number, each in enumerate(chosen, start=1):
            task = bar.add_task(f"series {number} of {len(chosen)}", total=each.slice_count)
            try:
                folder = simulate_series(
                    each,
                    target,
                    settings,
                    series_number=numbers[each.uid],
                    overwrite=overwrite,
                    slice_done=partial(bar.advance, task),
                )
                write_pair(source, each, folder)
            except (CtclipError, OSError, MemoryError) as error:
                failed += 1
                say_error(f"series {each.uid} failed: {one_line(error)}")
    if failed < len(chosen):
        console.print(f"pairs for 'ctclip evaluate': {target / PAIRS_FILE}")
    raise typer.Exit(exit_code(failed=failed, total=len(chosen)))
