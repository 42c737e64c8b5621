"""``ctclip weights``: list, fetch, verify, import and export weights."""

from __future__ import annotations

from pathlib import Path

import typer

from ctclip.cli.exit_codes import NOTHING_DONE, one_line_errors
from ctclip.cli.options import path

weights_app = typer.Typer(no_args_is_help=True, help="List, fetch, verify, import and export weights.")


@weights_app.command("list")
def list_weights() -> None:
    """Show the models that come with ctclip and the CLIP encoders that have been fetched."""
    from ctclip.weights.catalogue import ENCODERS, MODELS, TAGS, fetched_encoders

    with one_line_errors():
        for name, model in MODELS.items():
            typer.echo(f"model    {name:12} {model.sha256[:12]}  {model.description}")
        for fetched in fetched_encoders():
            typer.echo(f"encoder  {fetched.encoder} {fetched.tag}  {fetched.sha256[:12]}  {fetched.path}")
        typer.echo(f"to fetch: ctclip weights fetch ENCODER TAG, with {', '.join(ENCODERS)} and {', '.join(TAGS)}")


@weights_app.command()
def fetch(
    encoder: str = typer.Argument("RN50", help="open_clip's name of a ResNet image tower."),
    tag: str = typer.Argument("openai", help="open_clip's name of a training run."),
) -> None:
    """Download CLIP weights (this uses the network) and record their SHA-256."""
    with one_line_errors():
        from ctclip.weights import fetch_encoder

        fetched = fetch_encoder(encoder, tag)
        typer.echo(f"{fetched.encoder} {fetched.tag}: {fetched.path}, SHA-256 {fetched.sha256}")


@weights_app.command()
def verify() -> None:
    """Compare every model and every fetched encoder with its recorded SHA-256."""
    from ctclip.files import file_sha256
    from ctclip.weights.catalogue import MODELS, fetched_encoders

    with one_line_errors():
        files = [(name, model.path, model.sha256) for name, model in MODELS.items()]
        files += [(f"{e.encoder} {e.tag}", e.path, e.sha256) for e in fetched_encoders()]
        bad = 0
        for name, path, expected in files:
            state = "missing" if not path.is_file() else "ok" if file_sha256(path) == expected else "CHANGED"
            bad += state != "ok"
            typer.echo(f"{state:8} {name}  {path}")
    if bad:
        raise typer.Exit(NOTHING_DONE)


@weights_app.command("import")
def import_published(
    source: Path = typer.Argument(
        ..., parser=path, help="Checkpoint published with the paper, such as net_g_latest.pth."
    ),
    target: Path = typer.Argument(..., parser=path, help="ctclip checkpoint to write."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an existing file."),
) -> None:
    """Turn a checkpoint published with the paper into a ctclip checkpoint, BatchNorm buffers included."""
    with one_line_errors():
        from ctclip.errors import ConfigError
        from ctclip.files import file_sha256
        from ctclip.weights import read_published, save_checkpoint

        if target.exists() and not overwrite:
            raise ConfigError(f"{target} exists; give --overwrite to replace it")
        network, hu_window = read_published(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        provenance = {"imported_from": source.name, "source_sha256": file_sha256(source)}
        save_checkpoint(network, target, hu_window=hu_window, provenance=provenance)
        typer.echo(f"{target}: {network.config}")


@weights_app.command("export")
def export(
    model: str = typer.Argument(..., help="A model's name, or a ctclip checkpoint."),
    target: Path = typer.Argument(
        ..., parser=path, help="File to write: .pt (ctclip checkpoint), .pt2 (torch.export) or .onnx."
    ),
    encoder_weights: str | None = typer.Option(None, help="CLIP weights, for checkpoints without an encoder."),
    decoder_only: bool = typer.Option(False, "--decoder-only", help="Leave the encoder out; its SHA-256 is recorded."),
    half: bool = typer.Option(False, "--half", help="Store float16: half the size."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an existing file."),
) -> None:
    """Write a model in another form; networks in .pt2 and .onnx take sides that are multiples of 32."""
    with one_line_errors():
        from ctclip.errors import ConfigError
        from ctclip.weights import load_model, save_checkpoint
        from ctclip.weights.export import EXPORT_SUFFIXES, export_network

        if target.exists() and not overwrite:
            raise ConfigError(f"{target} exists; give --overwrite to replace it")
        if target.suffix not in (".pt", *EXPORT_SUFFIXES):
            raise ConfigError(f"cannot export to {target.name}: expected .pt, {' or '.join(EXPORT_SUFFIXES)}")
        if target.suffix != ".pt" and (decoder_only or half):
            raise ConfigError("--decoder-only and --half are for .pt files")
        target.parent.mkdir(parents=True, exist_ok=True)
        loaded = load_model(model, encoder_weights=encoder_weights)
        if target.suffix == ".pt":
            save_checkpoint(
                loaded.network,
                target,
                hu_window=loaded.hu_window,
                provenance=loaded.provenance,
                include_encoder=not decoder_only,
                half=half,
            )
        else:
            export_network(loaded.network, target)
        typer.echo(f"{target}: {loaded.name}")
