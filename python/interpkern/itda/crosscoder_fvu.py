"""How much of each site a cross-coder leaves unexplained."""

from collections.abc import Callable
from typing import Any

import numpy
import torch

from interpkern.itda.crosscoder_encoding import CHUNK, View, refit
from interpkern.itda.crosscoder_moments import moments_of
from interpkern.itda.crosscoder_sites import Site, Space, named
from interpkern.itda.crosscoder_streams import open_sites
from interpkern.itda.devices import sum_of_squares
from interpkern.itda.pursuit import Pursuit
from interpkern.itda.rows import rechunked


def fvu(
    x: Any,
    space: Space,
    atoms: torch.Tensor,
    view_on: Callable[[torch.device], View],
    pursuit: Pursuit,
    *,
    refitted: bool,
) -> dict[Site, float]:
    """Squared error over squared distance from the mean of x, each site for itself, all summed in float64.

    Args:
        x: rows of all sites.
        space, atoms: of all sites.
        view_on: the sites that the codes are taken from, on a device.
        pursuit: how they are taken.
        refitted: fit each site on the picks that all share.
    """
    stream = open_sites(x, None, space.sites, name="x")
    if not stream.repeatable:
        raise ValueError("x: expected something that can be read twice, got an iterator; put its batches in a list")
    stream.check_widths(space.widths, "the atoms")
    own = moments_of(stream, skip=False)
    error, total = numpy.zeros(len(space.sites)), numpy.zeros(len(space.sites))
    for rows in rechunked(stream.batches(), CHUNK):
        values = {site: rows.values[:, place] for site, place in space.columns.items()}
        view, atoms = view_on(rows.values.device), atoms.to(rows.values.device)
        code = view.encode({site: values[site] for site in view.space.sites}, pursuit, "exact")
        for number, (site, place) in enumerate(space.columns.items()):
            own_atoms, here = atoms[:, place], space.only([site])
            fitted = refit(code, values[site], here, own_atoms, nonnegative=pursuit.nonnegative) if refitted else code
            error[number] += sum_of_squares(values[site] - here.leave(site, fitted.decode(own_atoms)))
            mean = torch.from_numpy(own.total[place] / own.rows).to(values[site].device)
            total[number] += sum_of_squares(values[site] - mean)
    for site, variance in zip(space.sites, total, strict=True):
        if variance == 0:
            raise ValueError(f"{named('x', site)}: expected rows that differ; their variance is 0")
    return dict(zip(space.sites, (error / total).tolist(), strict=True))
