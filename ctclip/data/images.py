"""Natural images in a folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ctclip.data.sources import Item, hashed
from ctclip.errors import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


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
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not paths:
        raise DataError(f"no images in {root}: expected {', '.join(IMAGE_SUFFIXES)}")
    return [{"image": str(path), "patient": hashed(str(path.relative_to(root)))} for path in paths]
