"""Models that come with ctclip and CLIP encoders that open_clip can fetch: names, files, hashes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from ctclip.atomic import atomic_path
from ctclip.errors import WeightsError
from ctclip.files import cache_folder, file_sha256
from ctclip.networks.config import DenoiserConfig, open_clip_resnet_shape
from ctclip.settings import require_model


@dataclass(frozen=True)
class ShippedModel:
    """A model inside the package.

    Args:
        bundle: folder under ``bundles/``; the weights are its ``models/model.pt``.
        sha256: of that file.
        description: what it is, in a line.
    """

    bundle: str
    sha256: str
    description: str

    @property
    def path(self) -> Path:
        """Where the weights lie."""
        return Path(str(resources.files("ctclip.bundles") / self.bundle / "models" / "model.pt"))


MODELS = {
    "ct-compact": ShippedModel(
        "ct_compact_denoising",
        sha256="88c501a2802598494abc306001f8f893c6c93aa9b2b3ade6fc250f0212ee7fe8",
        description="CT, one slice, half width; encoder and decoder trained by ctclip on CT: not CLIP",
    ),
    "natural-compact": ShippedModel(
        "natural_clip_denoising",
        sha256="255b849e5206710c9b698fc5fb208f98713d7b3638fc463a23ca5d67902bdc85",
        description="photographs, RGB, half width; encoder and decoder trained by ctclip on CBSD432: not CLIP",
    ),
}

ENCODERS = ("RN50", "RN101", "RN50x4", "RN50x16", "RN50x64")
"""open_clip's ResNet image towers."""

TAGS = ("openai", "yfcc15m", "cc12m")
"""open_clip's names for training runs; not every encoder has all of them."""


@dataclass(frozen=True)
class FetchedEncoder:
    """A CLIP weights file on this machine: open_clip's name and tag, the file, and its hash when it was fetched."""

    encoder: str
    tag: str
    path: Path
    sha256: str


def find_model(model: str | Path) -> Path:
    """The checkpoint file of a shipped model's name, or the file itself.

    Raises:
        WeightsError: when there is neither such a model nor such a file, or a shipped model's file has been changed.
    """
    if str(model) in MODELS:
        shipped = MODELS[str(model)]
        if not shipped.path.is_file():
            raise WeightsError(f"the weights of {model} are missing at {shipped.path}; install ctclip again")
        if file_sha256(shipped.path) != shipped.sha256:
            raise WeightsError(
                f"{shipped.path} is not the file that ctclip ships (SHA-256 differs); install ctclip again"
            )
        return shipped.path
    require_model(model)
    return Path(model)


def find_encoder_file(weights: str | Path, config: DenoiserConfig) -> Path:
    """The encoder's weights file: a path as it is, that of a shipped model by its name, or the fetched file of an
    open_clip tag for this architecture. No network.

    Raises:
        WeightsError: when the file does not exist, a shipped one has changed, or the tag has not been fetched.
    """
    if str(weights) in MODELS:
        return find_model(weights)
    if str(weights) not in TAGS:
        path = Path(weights)
        if not path.is_file():
            raise WeightsError(
                f"encoder weights not found: {weights} is no file, no shipped model and none of the tags "
                f"{', '.join(TAGS)}"
            )
        return path
    name = open_clip_name(config)
    for fetched in fetched_encoders():
        if (fetched.encoder, fetched.tag) == (name, str(weights)):
            if not fetched.path.is_file():
                raise WeightsError(
                    f"{fetched.path} has been removed; run 'ctclip weights fetch {name} {weights}' again"
                )
            return fetched.path
    raise WeightsError(f"CLIP {name} ({weights}) is not on this machine; run 'ctclip weights fetch {name} {weights}'")


def open_clip_name(config: DenoiserConfig) -> str:
    """open_clip's name for an architecture.

    Raises:
        WeightsError: when it is none of open_clip's.
    """
    for name in ENCODERS:
        if open_clip_resnet_shape(name) == (config.encoder_layers, config.encoder_width):
            return name
    raise WeightsError(
        f"open_clip has no weights for an encoder with layers {config.encoder_layers} and width {config.encoder_width}"
    )


def fetch_encoder(encoder: str, tag: str) -> FetchedEncoder:
    """Download CLIP weights through open_clip, into its cache, and record their SHA-256. The only network access in
    ctclip.

    A file that already lies in open_clip's cache is checked and recorded without any network.

    Raises:
        WeightsError: for unknown names, and when the download fails: then the message says which file to place where.
    """
    import open_clip.pretrained

    config = open_clip.pretrained.get_pretrained_cfg(encoder, tag)
    url = config.get("url", "")
    if encoder not in ENCODERS or not url:
        known = {
            name: [t for t in TAGS if open_clip.pretrained.get_pretrained_cfg(name, t).get("url")] for name in ENCODERS
        }
        listed = "; ".join(f"{name}: {', '.join(tags)}" for name, tags in known.items())
        raise WeightsError(f"open_clip has no weights {encoder} {tag}; it has {listed}")
    try:
        # The original files, not the hub's copies: their URL holds their SHA-256, which open_clip checks.
        path = Path(open_clip.pretrained.download_pretrained(config, prefer_hf_hub=False))
    except (OSError, RuntimeError) as error:
        target = Path("~/.cache/clip").expanduser() / url.rsplit("/", 1)[-1]
        raise WeightsError(
            f"could not download {url} ({type(error).__name__}); without a network, place that file "
            f"at {target} and run this again, "
            "or give any CLIP weights file with --encoder-weights FILE"
        ) from error
    fetched = FetchedEncoder(encoder, tag, path, file_sha256(path))
    _record(fetched)
    return fetched


def fetched_encoders() -> list[FetchedEncoder]:
    """The encoders that have been fetched on this machine."""
    record = record_path()
    if not record.is_file():
        return []
    try:
        entries = json.loads(record.read_text())
        return [FetchedEncoder(e["encoder"], e["tag"], Path(e["path"]), e["sha256"]) for e in entries]
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{record} is damaged; remove it and fetch the weights again") from error


def record_path() -> Path:
    """Where fetched encoders are recorded."""
    return cache_folder() / "encoders.json"


def _record(fetched: FetchedEncoder) -> None:
    others = [e for e in fetched_encoders() if (e.encoder, e.tag) != (fetched.encoder, fetched.tag)]
    entries = [
        {"encoder": e.encoder, "tag": e.tag, "path": str(e.path.resolve()), "sha256": e.sha256}
        for e in [*others, fetched]
    ]
    record_path().parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(record_path()) as partial:
        partial.write_text(json.dumps(entries, indent=1))
