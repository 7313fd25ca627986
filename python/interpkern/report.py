"""Self-contained HTML pages: a section for each lab, tables of text, figures as inline SVG in the page's colours."""

import io
import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import pandas
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from interpkern.files import write_atomically

TEMPLATES = Path(__file__).parent / "templates"
INK = "#010203"
"""Black to the eye, and a colour that nothing else has: on a page it becomes the colour of the text."""
FIGURE_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "interpkern",
    "font.family": "sans-serif",
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}
"""Settings of matplotlib under which figures for a page are drawn and saved."""
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
PROVENANCE = ("interpkern", "torch", "numpy", "python", "platform", "cpu", "backend", "isa", "threads", "seed", "time")
"""What the foot of a page says of a run, as far as it is known."""


@dataclass(frozen=True)
class Section:
    """What one lab puts on a page, and the files that it puts beside it."""

    title: str
    template: str
    content: Mapping[str, Any]
    """What the template needs."""
    files: Mapping[str, bytes]
    provenance: Mapping[str, Any]
    name: str = ""
    """By which links on the page find it; by default that of the template."""

    @property
    def anchor(self) -> str:
        """The name by which links on the page find it."""
        return self.name or self.template.removesuffix(".html")

    def body(self) -> Markup:
        """Its part of the page."""
        return Markup(_rendered(self.template, self.content))


def save_page(title: str, sections: Sequence[Section], directory: Path, name: str) -> list[Path]:
    """Write one page with all sections and the files of each; returns the files, the page first."""
    known = {key: value for section in reversed(sections) for key, value in section.provenance.items()}
    content = {
        "title": title,
        "sections": sections,
        "command": shlex.join(known["command"]),
        "provenance": {key: known[key] for key in PROVENANCE if known.get(key) is not None},
    }
    files = {name: _rendered("sections.html", content).encode()}
    for section in sections:
        files |= section.files
    directory.mkdir(parents=True, exist_ok=True)
    for file, written in files.items():
        write_atomically(directory / file, written)
    return [directory / file for file in files]


def _rendered(template: str, content: Mapping[str, Any]) -> str:
    """What `template` makes of `content`; a name that the template needs and nobody gave is an error."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(content)


def finite(value: Any) -> Any:
    """The value as JSON has it: null for what is not a finite number."""
    if isinstance(value, Mapping):
        return {name: finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_bytes(record: Any) -> bytes:
    """A record as a JSON file."""
    return json.dumps(finite(record), indent=2, allow_nan=False).encode()


def parquet(frame: pandas.DataFrame) -> bytes:
    """A table as a parquet file."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def inline_svg(figure: Figure, *, label: str) -> Markup:
    """The figure, drawn under FIGURE_STYLE, as an <svg> element; `label` says what it shows to who cannot see it."""
    buffer = io.StringIO()
    with matplotlib.rc_context(FIGURE_STYLE):
        figure.savefig(buffer, format="svg", transparent=True, metadata=NO_METADATA)
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") :].replace(INK, "currentColor")
    drawing = re.sub(r' (?:width|height)="[\d.]+pt"', "", drawing, count=2)
    return Markup(drawing.replace("<svg", f'<svg role="img" aria-label="{Markup.escape(label)}"', 1))


def png(figure: Figure) -> bytes:
    """The figure for a paper or a README, 200 dots per inch."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200)
    return buffer.getvalue()
