"""Pictures of an addition study: patches over layers, spectra over layers, heads and MLPs."""

from typing import TYPE_CHECKING

import numpy
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from interpkern.probing.addition_result import AdditionStudy
    from interpkern.probing.path_patching import ComponentEffects

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#999999"
COLOURS = {"full": "black", "helix": BLUE, "circles": GREEN, "polynomial": ORANGE, "shuffled": GREY, "identity": GREY}


def plot_patches(study: "AdditionStudy") -> Figure:
    """The rise of the counterfactual answer's logit, between identity and full patch, beside shuffled fits."""
    figure = Figure(figsize=(5 * len(study.sites), 3.6), layout="constrained")
    panels = numpy.atleast_1d(figure.subplots(1, len(study.sites), sharey=True))
    for axes, site in zip(panels, study.sites, strict=True):
        table = study.patches[study.patches["site"] == site]
        for method in table["method"].unique():
            rows = table[table["method"] == method]
            colour = COLOURS.get(method, PURPLE if method.startswith("components") else None)
            style = {"identity": ":", "shuffled": "--"}.get(method, "-o")
            axes.plot(rows["layer"], rows["delta_logit"], style, color=colour, markersize=3, label=method)
        axes.set_title(f"patched at {site}", fontsize=10)
        axes.set_xlabel("layer")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False, fontsize=7)
    panels[0].set_ylabel("rise of the counterfactual\nanswer's logit")
    return figure


def plot_spectra(study: "AdditionStudy") -> Figure:
    """Share of power by frequency (columns) and layer (rows)."""
    sites = sorted({site for site, _ in study.spectra})
    figure = Figure(figsize=(5 * max(1, len(sites)), 3.6), layout="constrained")
    for axes, site in zip(numpy.atleast_1d(figure.subplots(1, max(1, len(sites)))), sites, strict=False):
        layers = [layer for one, layer in study.spectra if one == site]
        spectra = [study.spectra[site, layer] for layer in layers]
        shares = numpy.stack([spectrum.share.numpy() for spectrum in spectra])
        image = axes.pcolormesh(spectra[0].frequencies.numpy(), numpy.arange(len(layers)), shares, shading="nearest")
        axes.set_yticks(range(len(layers)), [str(layer) for layer in layers], fontsize=7)
        axes.set_xlabel("frequency in cycles a number")
        axes.set_ylabel("layer")
        axes.set_title(f"share of power at {site}", fontsize=10)
        figure.colorbar(image, ax=axes, shrink=0.8)
    return figure


def plot_components(effects: "ComponentEffects") -> Figure:
    """Direct against indirect effect on the logit difference; the six largest are named."""
    table = effects.to_pandas()
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    for kind, colour in (("head", BLUE), ("mlp", ORANGE)):
        rows = table[table["kind"] == kind]
        axes.plot(rows["direct_share"], rows["indirect_share"], "o", color=colour, markersize=4, label=kind)
    for row in table.head(6).itertuples():
        axes.annotate(
            row.component, (row.direct_share, row.indirect_share), (4, 4), textcoords="offset points", fontsize=8
        )
    axes.axhline(0, color=GREY, lw=0.5)
    axes.axvline(0, color=GREY, lw=0.5)
    axes.set_xlabel("direct effect, as a share of the whole change")
    axes.set_ylabel("indirect effect")
    axes.legend(frameon=False, fontsize=8)
    return figure


def figures(study: "AdditionStudy") -> dict[str, Figure]:
    """All pictures of a study by name; helices and bases at the layer where unseen operands are predicted best."""
    found = {"patches": plot_patches(study)}
    if study.spectra:
        found["spectra"] = plot_spectra(study)
    if study.components is not None:
        found["components"] = plot_components(study.components)
    for site in sorted({site for site, _ in study.helices}):
        fits = {layer: helix.held_out_r_squared for (one, layer), helix in study.helices.items() if one == site}
        best = max(fits, key=fits.__getitem__)
        found[f"helix_{site}_{best}"] = study.helices[site, best].plot()
        if (site, best) in study.comparisons:
            found[f"bases_{site}_{best}"] = study.comparisons[site, best].plot()
    return found | {f"neurons_{layer}": fits.plot() for layer, fits in study.neurons.items()}
