"""Command-line options read off the API: names, types and defaults of signatures, help from the Args of docstrings."""

import inspect
import re
import types
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer

PLAIN = (bool, int, float, str)


def descriptions(function: Callable[..., Any]) -> dict[str, str]:
    """What the lines `name: text` or `one, other: text` of the Args section of a docstring say; deeper lines go on."""
    lines = inspect.getdoc(function) or ""
    section = re.search(r"^Args:\n((?:[ ]+.*\n?)*)", lines, re.MULTILINE)
    found: dict[str, str] = {}
    names: list[str] = []
    for line in inspect.cleandoc(section[1]).splitlines() if section else ():
        entry = re.match(r"(\w+(?:, \w+)*): (.*)", line)
        names = entry[1].split(", ") if entry else names
        found |= {name: entry[2] if entry else f"{found[name]} {line.strip()}" for name in names}
    return found


def option_type(hint: Any) -> Any:
    """The type that a command line can give of what an annotation accepts, or None when there is none."""
    if hint in PLAIN:
        return hint
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        found = next((kind for kind in map(option_type, arguments) if kind is not None), None)
        return found | None if found is not None and type(None) in arguments else found
    if origin is tuple and Ellipsis not in arguments:
        parts = tuple(map(option_type, arguments))
        return None if None in parts else tuple[parts]  # type: ignore[valid-type]
    if origin is not None and issubclass(origin, Sequence) and arguments[0] is str:
        return list[str]
    return None


def options(
    function: Callable[..., Any], *, leave_out: Collection[str] = (), optional: Collection[str] = ()
) -> list[inspect.Parameter]:
    """One option for each parameter of `function` that a command line can give.

    Args:
        function: a function, class method or class of the API.
        leave_out: parameters that are no options.
        optional: parameters without default that may be left out, and are None then.
    """
    initialiser: Any = function.__init__ if inspect.isclass(function) else function
    hints, texts = get_type_hints(initialiser), descriptions(function)
    made = []
    for name, parameter in inspect.signature(function).parameters.items():
        kind = option_type(hints.get(name))
        if kind is None or name in leave_out:
            continue
        default = parameter.default
        if default is inspect.Parameter.empty and (name in optional or type(None) in get_args(hints[name])):
            kind, default = (kind if type(None) in get_args(kind) else kind | None), None
        made.append(option(name, kind, default, help=texts[name]))
    return made


def option(name: str, kind: Any, default: Any, *, help: str) -> inspect.Parameter:
    """One option called as the parameter, with dashes; what is not off by default can be switched off."""
    flag = f"--{name.replace('_', '-')}"
    switch = kind in (bool, bool | None) and default is not False
    again = " Give the option again for another." if kind in (list[str], list[str] | None) else ""
    parser = _number_or_none if kind == float | None and default is not None else None
    described = typer.Option(f"{flag}/--no-{flag[2:]}" if switch else flag, help=f"{help}{again}", parser=parser)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, described]
    )


def argument(name: str, kind: Any, default: Any = inspect.Parameter.empty, *, help: str) -> inspect.Parameter:
    """A parameter that is given by its place; without a default it must be."""
    annotation = Annotated[kind, typer.Argument(help=help)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _number_or_none(typed: str | float) -> float | None:
    """What is typed for a number that may be None and isn't by default."""
    return None if str(typed).lower() == "none" else float(typed)


def with_options(
    body: Callable[[dict[str, Any]], None], parameters: Iterable[inspect.Parameter]
) -> Callable[..., None]:
    """A function with these parameters, for typer to read, that hands their values to `body` by name.

    Where two functions of the API share a parameter, the first that came describes it.
    """
    unique: dict[str, inspect.Parameter] = {}
    for parameter in parameters:
        unique.setdefault(parameter.name, parameter)

    def command(**values: Any) -> None:
        body(values)

    ordered = sorted(unique.values(), key=lambda parameter: parameter.default is not inspect.Parameter.empty)
    command.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in ordered}
    command.__doc__ = body.__doc__
    return command
