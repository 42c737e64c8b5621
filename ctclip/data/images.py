"""Natural images: which files are some, and those in a folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ctclip.data.layouts import hashed
from ctclip.dicom import is_dicom_file
from ctclip.errors import DataError
from ctclip.files import files_below, folders_below, is_of_the_system

if TYPE_CHECKING:
    from ctclip.data.sources import Item

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def is_image(path: Path) -> bool:
    """Whether the name is that of an image file."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def is_photograph(path: Path) -> bool:
    """Whether a file, or one that should be there, is an image by its name and no DICOM by its content."""
    return is_image(path) and not is_dicom_file(path)


def holds_images_only(folder: Path) -> bool:
    """Whether a folder holds photographs and no file that is none, and no folder below it DICOM.

    What is hidden does not count, nor what the system puts beside images.
    """
    found = False
    for place, names in folders_below(folder):
        if any(part.startswith(".") for part in place.relative_to(folder).parts):
            continue
        for name in names:
            if name.startswith(".") or is_of_the_system(name) or not (place / name).is_file():
                continue
            if is_dicom_file(place / name) or (place == folder and not is_image(place / name)):
                return False
            found = found or place == folder
    return found


def image_files(folder: Path) -> list[Path]:
    """The image files in a folder and below it, sorted by name; links are followed.

    Raises:
        DataError: when there is none.
    """
    files = [path for path in files_below(folder) if is_image(path)]
    if not files:
        raise DataError(f"no images in {folder}: expected {', '.join(IMAGE_SUFFIXES)}")
    return files


def other_formats(paths: Iterable[Path]) -> list[str]:
    """The suffixes of images among file names that are not read, such as ".gif"."""
    from PIL import Image

    suffixes = {path.suffix.lower() for path in paths} - {"", *IMAGE_SUFFIXES}
    formats = {suffix: Image.registered_extensions().get(suffix, "") for suffix in suffixes}
    return sorted(suffix for suffix, name in formats.items() if Image.MIME.get(name, "").startswith("image/"))


def find_images(dataset_dir: str | Path) -> list[Item]:
    """The images in a folder and below it, sorted by name.

    Returns:
        items with ``image``, a file name, and ``patient``, here one per image, for
        :func:`~ctclip.data.sources.split_by_patient`.

    Raises:
        DataError: when the folder does not exist or holds no image.
    """
    root = Path(dataset_dir)
    if not root.is_dir():
        raise DataError(f"no such folder: {root}; give --dataset_dir with images ({', '.join(IMAGE_SUFFIXES)})")
    return [{"image": str(path), "patient": hashed(str(path.relative_to(root)))} for path in image_files(root)]
