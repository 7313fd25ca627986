"""What a cross-coder is once it is built: its atoms, sites, settings and story."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas
import torch

from interpkern.itda.built import Built
from interpkern.itda.construction import Construction
from interpkern.itda.crosscoder_encoding import View
from interpkern.itda.crosscoder_exclusivity import Exclusivity, share_columns, shares_of
from interpkern.itda.crosscoder_moments import Standard
from interpkern.itda.crosscoder_sites import Site, Space, check_chosen, shown
from interpkern.itda.crosscoder_storage import Facts, Stored
from interpkern.itda.dictionary import ITDA
from interpkern.itda.pursuit import Pursuit
from interpkern.itda.settings import Settings


class FittedCrosscoder(Built):
    """A plain dictionary of joint rows, with the sites that these are made of."""

    def __init__(self, standard: Standard, empty: ITDA) -> None:
        self._sites, self._standard, self._empty = standard.sites, standard, empty
        self._joint: ITDA | None = None
        self._space: Space | None = None
        self._facts: Facts = {}
        self._views: dict[tuple[tuple[Site, ...], torch.device], View] = {}

    @property
    def sites(self) -> tuple[Site, ...]:
        """Their names, in the order in which they lie in a joint row."""
        return self._sites

    @property
    def atoms(self) -> torch.Tensor:
        """(M, sum of D_l) float32 unit rows, the sites side by side; a view, not to be written to."""
        return self._built.atoms.values

    @property
    def site_atoms(self) -> dict[Site, torch.Tensor]:
        """{site: (M, D_l)} float32 columns of `atoms`: centred, scaled and weighted; views, not to be written to."""
        joint, space = self._fitted
        return {site: joint.atoms[:, place] for site, place in space.columns.items()}

    @property
    def means(self) -> dict[Site, torch.Tensor]:
        """{site: (D_l,)} float32, taken off before encoding; zeros for centre=False."""
        return dict(zip(self._sites, self._fitted[1].means, strict=True))

    @property
    def scales(self) -> dict[Site, float]:
        """{site: s_l}, the root mean square of the centred site, or what was given; in the units of the activations."""
        return dict(zip(self._sites, self._fitted[1].scales, strict=True))

    @property
    def weights(self) -> dict[Site, float]:
        """{site: w_l}."""
        return dict(zip(self._sites, self._standard.weights, strict=True))

    @property
    def settings(self) -> Settings:
        """The arguments that decide the dictionary, as those of ITDA."""
        centre = self._standard.centre
        return replace(self._empty.settings, centre=centre if isinstance(centre, bool) else "given")

    @property
    def data(self) -> Mapping[str, Any]:
        """What is known of the activations: as in ITDA, of the joint rows; and for each of the sites."""
        return dict(self._fitted[0].data) | {"sites": dict(self._facts)}

    def __len__(self) -> int:
        return 0 if self._joint is None else len(self._joint)

    def __repr__(self) -> str:
        s = self.settings
        size = "not fitted" if self._space is None else f"atoms={len(self)}, widths={self._space.widths}"
        return f"CrosscoderITDA([{shown(self._sites)}], {size}, k={s.k}, method={s.method!r}, threshold={s.threshold})"

    def to_pandas(self) -> pandas.DataFrame:
        """One row an atom: the columns of ITDA.to_pandas, of the joint rows, and the share of each site."""
        table = self._built.atoms.to_pandas()
        return table.assign(**share_columns(self._sites, shares_of(self.site_atoms)))

    def exclusivity(self) -> Exclusivity:
        """The share of each site in the squared norm of each atom."""
        return Exclusivity(self._sites, shares_of(self.site_atoms), self.labels)

    def _keep(self, joint: ITDA, space: Space, facts: Facts) -> None:
        self._joint, self._space, self._facts = joint, space, facts
        self._source, self._views = None, {}

    @property
    def _fitted(self) -> tuple[ITDA, Space]:
        if self._joint is None or self._space is None:
            raise ValueError("CrosscoderITDA: this one has no dictionary yet; call fit(activations) first")
        return self._joint, self._space

    @property
    def _built(self) -> Construction:
        return self._fitted[0]._built

    @property
    def _pursuit(self) -> Pursuit:
        return self._empty._pursuit

    @property
    def _stored(self) -> Stored:
        joint, space = self._fitted
        return Stored(joint, space, self.settings.centre, self._standard.scales is not None, self._facts)

    def _view(self, sites: Sequence[Site] | None, device: torch.device) -> View:
        """The atoms as some sites see them, made once for each choice and device."""
        space, chosen = self._fitted[1], check_chosen(sites, self._sites)
        if (chosen, device) not in self._views:
            self._views[chosen, device] = View.of(self._built.atoms, space, chosen, device, self._pursuit.threads)
        return self._views[chosen, device]
