"""Exports that come as a zip file: unpacked into a private temporary folder, under names that mean nothing."""

from __future__ import annotations

import errno
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ctclip.errors import SeriesError
from ctclip.temporary import temporary_folder

MAX_RATIO = 200
"""Unpacked over packed size, from which a file is a trap: CT compresses by less than 20, text by less than 100."""

FREE_BYTES_KEPT = 1 << 30
"""Space that unpacking leaves on the disk."""


ZIP_START = b"PK\3\4"
"""Of the first file in an archive; its list of files stands at the end, which a broken transfer cuts off."""


def is_zip(source: Path) -> bool:
    """Whether the source is a zip file, by content; one that is cut off is one too."""
    return source.is_file() and (zipfile.is_zipfile(source) or _starts_as_zip(source))


def _starts_as_zip(source: Path) -> bool:
    try:
        with source.open("rb") as file:
            return file.read(len(ZIP_START)) == ZIP_START
    except OSError:
        return False


@contextmanager
def unpacked(source: Path) -> Iterator[Path]:
    """The source itself, or a folder with the files of a zip file, removed afterwards.

    Only this user can read the folder. Its files are numbered, in the archive's order: names in the archive never
    become paths. An archive inside an archive is not opened.

    Raises:
        SeriesError: when the archive is damaged, encrypted, too large for the disk, or made to fill it.
    """
    if not is_zip(source):
        yield source
        return
    with temporary_folder() as folder:
        _unpack(source, folder)
        yield folder


def _unpack(source: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(source) as archive:
            members = [member for member in archive.infolist() if not (member.is_dir() or _only_marks(member))]
            _require_harmless(members, source.stat().st_size, shutil.disk_usage(folder).free)
            for number, member in enumerate(members, start=1):
                with archive.open(member) as packed, (folder / f"{number:06d}").open("wb") as file:
                    # The declared size was checked; zipfile reads no more than that.
                    shutil.copyfileobj(packed, file)
    except SeriesError:
        raise
    except Exception as error:
        # zipfile and its decompressors raise nearly anything for a damaged file, which a full disk is not
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise SeriesError(
            f"the zip file is damaged or of an unknown kind ({type(error).__name__}); "
            "transfer it again, or unpack it by hand and give the folder"
        ) from error


def _only_marks(member: zipfile.ZipInfo) -> bool:
    """Whether it is hidden and empty; the scan, which sees no names of an archive, would take it for a lost slice."""
    return member.file_size == 0 and PurePosixPath(member.filename).name.startswith(".")


def _require_harmless(members: list[zipfile.ZipInfo], packed_bytes: int, free_bytes: int) -> None:
    if not members:
        raise SeriesError("the zip file is empty: expected DICOM files in it")
    if any(member.flag_bits & 1 for member in members):
        raise SeriesError("the zip file is encrypted; unpack it by hand and give the folder")
    unpacked_bytes = sum(member.file_size for member in members)
    if unpacked_bytes > MAX_RATIO * packed_bytes:
        raise SeriesError(
            f"the zip file would grow {unpacked_bytes / packed_bytes:.0f} times; images do so by less than 20 times"
        )
    if unpacked_bytes > free_bytes - FREE_BYTES_KEPT:
        raise SeriesError(
            f"the zip file needs {_size(unpacked_bytes)} unpacked, the temporary folder has {_size(free_bytes)}, "
            "of which 1 GB stays free; set TMPDIR to a larger disk"
        )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
