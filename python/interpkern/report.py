"""Self-contained HTML pages: a jinja2 template, tables of text, and figures as inline SVG in the page's own colours."""

import io
import re
from pathlib import Path
from typing import Any

import matplotlib
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

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


def page(template: str, content: dict[str, Any]) -> str:
    """The page that `template` makes of `content`; a name that the template needs and nobody gave is an error."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(content)


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
