"""What an addition study found: tables, figures, files."""

import json
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas

from interpkern.files import as_path, provenance, write_atomically
from interpkern.probing.basis_comparison import BasisComparison
from interpkern.probing.fourier import Fourier
from interpkern.probing.helix import HelixFit
from interpkern.probing.neurons import NeuronFits
from interpkern.probing.path_patching import ComponentEffects

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Place = tuple[str, int]
"""A site (a, b, last) and a layer."""


@dataclass(frozen=True, eq=False)
class AdditionStudy:
    """All of one study: Fourier spectra, fits, patches with bounds and controls, heads and MLPs, neurons."""

    settings: dict[str, Any]
    """The arguments of the study, as far as they are no objects, and what follows from them."""
    layers: tuple[int, ...]
    sites: tuple[str, ...]
    """a, b, last."""
    accuracy: float
    """Share of the test prompts that the model answers right."""
    spectra: dict[Place, Fourier]
    """Over the operand, by site and layer; none for the last position and for numbers with gaps."""
    helices: dict[Place, HelixFit]
    """Of the mean activation of each operand."""
    comparisons: dict[Place, BasisComparison]
    """All subsets of periods, polynomials and components; none where there are too few numbers."""
    patches: pandas.DataFrame
    """One row a site, layer and method."""
    components: ComponentEffects | None
    """Heads and MLPs at the last position."""
    neurons: dict[int, NeuronFits]
    """Fits of MLP neurons at the last position on a, b and the result, by layer."""
    warnings: tuple[str, ...]

    def to_pandas(self) -> pandas.DataFrame:
        """The patches: one row a site, layer and method.

        r_squared is that of the prediction on counterfactual prompts, whose operand no fit has seen; delta_logit the
        rise of the counterfactual answer's logit over the run without a patch (the paper's figure), share_of_full that
        rise as a share of the full patch's, logit_difference the logit of the counterfactual answer less that of the
        answer, accuracy how often the counterfactual answer is on top, kl in nats from the unpatched prediction;
        p_value the rank of the helix's delta_logit among fits of shuffled activations.
        """
        return self.patches.copy()

    def fits_to_pandas(self) -> pandas.DataFrame:
        """One row an operand and layer: how well a helix fits, and which functions were chosen."""
        rows = []
        for (site, layer), helix in self.helices.items():
            chosen = self.comparisons.get((site, layer))
            spectrum = self.spectra.get((site, layer))
            rows.append(
                {
                    "site": site,
                    "layer": layer,
                    "r_squared": helix.r_squared,
                    "held_out_r_squared": helix.held_out_r_squared,
                    "chosen": chosen.best.candidate.name if chosen else "",
                    "chosen_r_squared": chosen.best.r_squared if chosen else math.nan,
                    "strongest_period": float(spectrum.periods[spectrum.share.argmax()]) if spectrum else math.nan,
                }
            )
        return pandas.DataFrame(rows)

    def plot(self) -> "Figure":
        """Draw the effect of every method over layers, between identity and full patch, a panel for each site."""
        from interpkern.probing.addition_plots import plot_patches

        return plot_patches(self)

    def plot_spectra(self) -> "Figure":
        """Draw the share of power by period over layers."""
        from interpkern.probing.addition_plots import plot_spectra

        return plot_spectra(self)

    def save(self, directory: str | Path) -> Path:
        """Write tables as parquet, settings and warnings as JSON, and the figures as PNG into a directory."""
        from interpkern.probing.addition_plots import figures

        folder = as_path("directory", directory)
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in self.tables().items():
            write_atomically(folder / f"{name}.parquet", partial(table.to_parquet, index=False))
        about = {"schema": 1, "settings": self.settings, "accuracy": self.accuracy, "warnings": self.warnings}
        content = json.dumps(about | {"provenance": provenance()}, indent=1)
        write_atomically(folder / "study.json", f"{content}\n".encode())
        for name, figure in figures(self).items():
            write_atomically(folder / f"{name}.png", partial(figure.savefig, dpi=150))
        return folder

    def tables(self) -> dict[str, pandas.DataFrame]:
        """All tables by name: patches, fits, comparisons, spectra, components, neurons."""
        found = {"patches": self.to_pandas(), "fits": self.fits_to_pandas()}
        for name, results in (("comparisons", self.comparisons), ("spectra", self.spectra)):
            parts = [table.to_pandas().assign(site=site, layer=layer) for (site, layer), table in results.items()]
            found |= {name: pandas.concat(parts, ignore_index=True)} if parts else {}
        if self.components is not None:
            found["components"] = self.components.to_pandas()
        fits = [fit.to_pandas().assign(layer=layer) for layer, fit in self.neurons.items()]
        return found | ({"neurons": pandas.concat(fits, ignore_index=True)} if fits else {})
