"""The demo's part of a page: the log probe of each model, one after the other."""

from typing import TYPE_CHECKING, Any

from interpkern.probing.log_probe_report import FINDINGS, log_probe_section
from interpkern.report import Section

if TYPE_CHECKING:
    from interpkern.probing.demo import Demo

TITLE = "Do language models hold numbers on a log scale?"


def section(demo: "Demo") -> Section:
    """With the files of each model, which begin with its name."""
    models: list[dict[str, Any]] = []
    files: dict[str, bytes] = {}
    for one in demo.found:
        name = one.activations.name
        part = log_probe_section(one, prefix=f"probing-{name}")
        within = Section(part.title, FINDINGS, dict(part.content) | {"heading": "h4"}, {}, {})
        models.append({"name": name, "body": within.body()})
        files |= part.files
    return Section(TITLE, "probing_demo.html", {"models": models, "note": demo.plan.note}, files, demo.provenance)
