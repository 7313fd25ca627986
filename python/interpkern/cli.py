"""The command line: `interpkern memorise | capacity | itda | probe | report | demo | models | doctor`.

Commands import what needs torch.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from interpkern import __version__
from interpkern.cli_models import models
from interpkern.errors import BackendUnavailable, MissingExtra

LAZY = {
    "capacity": "interpkern.cli_capacity",
    "report": "interpkern.cli_report",
    "memorise": "interpkern.cli_memorise",
    "itda": "interpkern.cli_itda",
    "probe": "interpkern.cli_probe",
}
"""Whose options are read off the API, which takes seconds to import: the module with the `command` or the `group`."""
PLAIN: dict[str, Any] = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": None}
"""Help that keeps the names of options whole at 80 columns."""
REFUSALS = (ValueError, TypeError, OSError, MemoryError, MissingExtra, RuntimeError)


class LazyGroup(TyperGroup):
    """Builds the options of LAZY commands only when one is called, and ends refusals and Ctrl-C in one line."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Exchange the stub, which only `--help` of the group sees, for the command with its options."""
        name, stub, rest = super().resolve_command(ctx, args)
        return name, _built(name) if name in LAZY else stub, rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with _one_line(traceback=ctx.params.get("traceback", False)):
            return super().invoke(ctx)


def _built(name: str) -> Any:
    module = import_module(LAZY[name])
    if hasattr(module, "group"):
        return get_command(module.group)
    single = typer.Typer(**PLAIN)
    single.command(name)(module.command)
    return get_command(single)


@contextmanager
def _one_line(*, traceback: bool) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(130) from None
    except REFUSALS as error:
        if traceback or not _is_refusal(error):
            raise
        typer.echo(f"error: {error or type(error).__name__}", err=True)
        raise typer.Exit(2) from None


def _is_refusal(error: Exception) -> bool:
    """Of the many RuntimeErrors: ours, and torch's words for a MemoryError."""
    return not isinstance(error, RuntimeError) or isinstance(error, BackendUnavailable) or "allocate" in str(error)


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, **PLAIN)
app.add_typer(models, name="models")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"interpkern {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version and exit.")
    ] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="show where an error came from.")] = False,
) -> None:
    """Compiled kernels for interpretability experiments."""


@app.command()
def memorise() -> None:
    """Train tiny MLPs, each to memorise a table of facts."""
    raise NotImplementedError("a stub that LazyGroup exchanges")


@app.command()
def capacity() -> None:
    """Find how many facts models of a size can hold."""
    raise NotImplementedError("a stub that LazyGroup exchanges")


@app.command()
def report() -> None:
    """Put what a directory of sweeps holds on one page."""
    raise NotImplementedError("a stub that LazyGroup exchanges")


@app.command()
def itda() -> None:
    """Build, measure and compare dictionaries of activations."""
    raise NotImplementedError("a stub that LazyGroup exchanges")


@app.command()
def probe() -> None:
    """Test how a model holds numbers."""
    raise NotImplementedError("a stub that LazyGroup exchanges")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="folder for the page, the pictures and all numbers.")] = Path(
        "interpkern-demo"
    ),
    part: Annotated[
        list[str] | None,
        typer.Option(help="memorisation, itda or probing; by default all. Give the option again for another."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="seconds instead of a minute, for a first look.")] = False,
    threads: Annotated[int | None, typer.Option(help="CPU threads; by default torch.get_num_threads().")] = None,
    seed: Annotated[int, typer.Option(help="an integer from 0 to 2^64 - 1.")] = 0,
    backend: Annotated[str, typer.Option(help="auto, cpu, cuda, triton or reference.")] = "auto",
) -> None:
    """See what each lab finds, on one page, in about two minutes."""
    from interpkern import demo as demos
    from interpkern.cli_output import folder, say

    folder(out)
    found = demos.run(part or (), quick=quick, seed=seed, backend=backend, threads=threads, say=say)
    files = found.save(out)
    say("")
    say(f"wrote {files[0]} and {len(files) - 1} pictures and tables beside it")


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="print only JSON.")] = False) -> None:
    """Check the installation: every backend, whether right, how fast."""
    from interpkern.doctor import report as examined
    from interpkern.doctor import text

    found = examined()
    typer.echo(json.dumps(found, indent=2, allow_nan=False) if as_json else text(found))
    raise typer.Exit(0 if found["ok"] else 1)


def main() -> None:
    """Run the command line."""
    app()
