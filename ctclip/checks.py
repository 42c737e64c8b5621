"""Checks that end a bundle at once with one line, before any traceback of the engine.

``SystemExit`` passes through MONAI's expression evaluator unwrapped, so the line is all that the user sees.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ctclip.errors import AlreadyDoneError, ConfigError, CtclipError
from ctclip.files import require_no_file_above
from ctclip.settings import require_above_0, require_count, require_flag

if TYPE_CHECKING:
    from ignite.engine import Engine

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


def or_exit(function: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
    """Call ``function``; end the program with one line when it fails with one of ctclip's own errors.

    MONAI wraps the errors of transforms; ctclip's own is found among the causes.

    Raises:
        SystemExit: with the error's message; with exit code 0 when nothing is left to do.
    """
    try:
        return function(*args, **kwargs)
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, CtclipError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        if isinstance(cause, AlreadyDoneError):
            print(f"ctclip: {cause}", file=sys.stderr)
            raise SystemExit(0) from error
        raise SystemExit(f"ctclip: {cause}") from error


def run_or_exit(engine: Engine) -> None:
    """Run an engine as :func:`or_exit` calls a function.

    Engine and StatsHandler log every exception, with its traceback, and raise it again. Here they do not log it: what
    is raised is shown anyway, in one line where it is one of ctclip's own errors.

    Args:
        engine: whose StatsHandler, if any, has that name.
    """
    loggers = [engine.logger, logging.getLogger("StatsHandler")]
    for each in loggers:
        each.addFilter(_below_error)
    try:
        or_exit(engine.run)
    finally:
        for each in loggers:
            each.removeFilter(_below_error)


def _below_error(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR


def or_nothing(function: Callable[..., list], *args: Any) -> list:
    """Call ``function``; an empty list when it fails with one of ctclip's own errors.

    Inference bundles list their data with it, so that they can be opened and checked where there is none; their
    ``run`` begins with :func:`or_exit` for the case that the list is empty.
    """
    try:
        return function(*args)
    except CtclipError:
        return []


def require_batch_size(batch_size: object) -> None:
    """Refuse a number of slices per pass of the network that cannot be.

    Raises:
        ConfigError: with the setting's name.
    """
    require_count("batch_size", batch_size, least=1, remedy="; give --batch_size")


def require_simulated_sd(simulated_sd_hu: object) -> None:
    """Refuse an SD of simulated noise that cannot be.

    Raises:
        ConfigError: with the setting's name.
    """
    require_above_0("simulated_sd_hu", simulated_sd_hu, "; give --simulated_sd_hu")


def require_result_folder(dataset_dir: str | Path, output_dir: str | Path, *, overwrite: bool) -> None:
    """Refuse to write results where they would be input of the next run, as ``ctclip denoise`` does.

    Args:
        dataset_dir: what is denoised; it need not be there.
        output_dir: for the results.
        overwrite: whether they may replace earlier ones.

    Raises:
        ConfigError: when the output lies inside the input, or is no folder, or ``overwrite`` is neither True nor False.
    """
    from ctclip.data.folders import require_folders

    require_flag("overwrite", overwrite)
    require_folders(Path(dataset_dir), Path(output_dir))


def require_writable(output_dir: str | Path) -> None:
    """Refuse a folder that nothing can be written into; make it when it is missing.

    Raises:
        ConfigError: when it is a file, or cannot be made or written into.
    """
    folder = Path(output_dir)
    require_no_file_above(folder, "output_dir")
    if folder.is_file():
        raise ConfigError(f"output_dir is a file, expected a folder, found {folder}; give another --output_dir")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # rights alone do not tell: there are disks that cannot be written
            pass
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(f"output_dir {folder} cannot be written: {reason}; give another --output_dir") from error


def bundle_root(name: str) -> str:
    """Folder of a bundle: the current one when its metadata give that name, else the one installed with ctclip.

    A config does not know where its own file lies, so a copy of a bundle that is run from another folder needs
    ``--bundle_root``; the log says when the installed one is used.

    Args:
        name: folder name below ``bundles/``.
    """
    from importlib import resources

    metadata = Path("configs/metadata.json")
    if metadata.is_file() and _bundle_name(metadata) == name:
        return "."
    root = str(resources.files("ctclip.bundles") / name)
    logger.info(
        "bundle_root is %s, the installed bundle: its weights and output folder are used unless told otherwise; "
        "give --bundle_root for a copy of it",
        root,
    )
    return root


def _bundle_name(metadata: Path) -> str | None:
    """In the metadata of a bundle; ``None`` where they are none."""
    try:
        return json.loads(metadata.read_bytes()).get("name")
    except (ValueError, AttributeError) as error:  # not JSON, or no mapping
        logger.warning("%s is no bundle's metadata (%s)", metadata, type(error).__name__)
        return None
