"""CrosscoderITDA: one dictionary for several layers or models, whose atoms are tokens as all of them see it."""

import os
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy
import torch

from interpkern.errors import ShapeError
from interpkern.itda import crosscoder_encoding as encoding
from interpkern.itda import crosscoder_storage as storage
from interpkern.itda.crosscoder_fitted import FittedCrosscoder
from interpkern.itda.crosscoder_fvu import fvu
from interpkern.itda.crosscoder_joint import JointRows, facts_of
from interpkern.itda.crosscoder_moments import Standard, check_centre
from interpkern.itda.crosscoder_sites import (
    Site,
    Space,
    check_chosen,
    check_finite,
    check_rows,
    check_sites,
    entries,
    named,
    numbers_by_site,
)
from interpkern.itda.crosscoder_streams import SiteStream, open_sites
from interpkern.itda.dictionary import CHECKPOINT_EVERY, ITDA
from interpkern.ops.sparse_code import SparseCode
from interpkern.progress import Progress, reporting
from interpkern.validation import boolean

Rows = Mapping[Site, torch.Tensor | numpy.ndarray]


class CrosscoderITDA(FittedCrosscoder):
    """One dictionary for several sites: layers of a model, or models that read the same tokens.

    An atom is a token as all sites see it, and a code is shared by them. At each site l the mean mu_l is taken off, and
    what is left is divided by its root mean square s_l and multiplied by the weight w_l; a joint row lays these side by
    side, z = [w_l (x_l - mu_l) / s_l]. Atoms are joint rows of unit norm, chosen as ITDA chooses them; site l of a code
    is s_l / w_l times code @ D_l, plus mu_l, where D_l are the columns of the site.

    Args:
        sites: names, or numbers of layers.
        k: picks of a sample at most, for all sites together.
        method: "mp", "mp_refit" or "omp".
        threshold: loss above which a joint row becomes an atom, as in ITDA; None looks for that of `max_atoms`.
        centre: take off the mean of each site (True), nothing (False), or {site: (D_l,) vector}.
        max_atoms, mode, order, relative, nonnegative, skip_nonfinite, backend, threads: as in ITDA; a row is left out
            where one of its sites is not finite.
        weights: {site: number above 0}; None takes 1. A site with more weight decides more of the picks. As s_l is that
            of single numbers, a site counts in proportion to its width too: 1 / sqrt(D_l) makes up for it.
        scales: {site: s_l}, in the units of the activations; None takes the root mean square.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument and the site.

    Source:
        Newgas's extension of ITDA to cross-coders (unpublished; this is a reconstruction), after Leask, Nanda and
        Al Moubayed 2025, "Inference-Time Decomposition of Activations (ITDA)"; cross-coders: Lindsey et al. 2024.

    Example:
        >>> early, late = torch.randn(2000, 32), torch.randn(2000, 48)
        >>> crosscoder = CrosscoderITDA(["early", "late"], k=8, threshold=0.3).fit({"early": early, "late": late})
        >>> code = crosscoder.encode({"early": early[:5]}, sites=["early"])
        >>> crosscoder.decode(code)["late"].shape
        torch.Size([5, 48])
    """

    def __init__(
        self,
        sites: Sequence[Site],
        k: int = 32,
        method: str = "omp",
        threshold: float | None = 0.15,
        centre: bool | Rows = True,
        max_atoms: int | None = None,
        mode: str = "exact",
        *,
        weights: Mapping[Site, float] | None = None,
        scales: Mapping[Site, float] | None = None,
        order: str = "given",
        relative: bool = True,
        nonnegative: bool = False,
        skip_nonfinite: bool = False,
        backend: str = "auto",
        threads: int | None = None,
    ) -> None:
        names = check_sites(sites)
        standard = Standard(
            names,
            check_centre(centre, names),
            None if scales is None else numbers_by_site("scales", scales, names),
            (1.0,) * len(names) if weights is None else numbers_by_site("weights", weights, names),
        )
        empty = ITDA(
            k=k,
            method=method,
            threshold=threshold,
            centre=False,
            max_atoms=max_atoms,
            mode=mode,
            order=order,
            relative=relative,
            nonnegative=nonnegative,
            skip_nonfinite=skip_nonfinite,
            backend=backend,
            threads=threads,
        )
        super().__init__(standard, empty)

    def fit(
        self,
        activations: Any,
        labels: torch.Tensor | numpy.ndarray | None = None,
        *,
        data_id: str | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: int = CHECKPOINT_EVERY,
        progress: Progress | bool | None = None,
    ) -> "CrosscoderITDA":
        """Build the dictionary anew.

        Shapes:
            {site: (N, D_l)} float32, float64, float16 or bfloat16, row i of every site of the same token; labels (N, 2)
            integers, shared by the sites.

        Args:
            activations: {site: tensor, array or interpkern.Activations}, or an iterable of ({site: tensor}, labels) or
                {site: tensor} batches. It is read twice, or once where centre and scales are given.
            labels: prompt id and position of each row, for tensors and arrays; by default (row number, 0). Activations
                have their own, which must be the same at every site.
            data_id, checkpoint, checkpoint_every, progress: as in ITDA.fit.

        Returns:
            This cross-coder. If the fit fails or is interrupted, it stays as it was.

        Raises:
            ShapeError, DTypeError or ValueError that names the argument and the site, and the row that is not finite.

        Example:
            >>> batches = [({"a": torch.randn(50, 8), "b": torch.randn(50, 4)}, None) for _ in range(2)]
            >>> CrosscoderITDA(["a", "b"], k=4).fit(batches).report.rows_seen
            100
        """
        stream = open_sites(activations, labels, self._sites)
        if self._standard.reads and not stream.repeatable:
            raise ValueError(
                f"{stream.name}: the means and scales are read before the rows, and an iterator can be read once; give"
                " {site: tensor}, a list of batches or an object whose iter() starts anew, or give both centre and"
                " scales"
            )
        skip = self.settings.skip_nonfinite
        space, known = self._standard.space(stream, skip=skip)
        if space is None:
            raise ValueError(f"{stream.name}: expected at least one row, got none")
        joint = copy(self._empty).fit(
            JointRows(stream, space, skip=skip, known=known),
            data_id=data_id,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
            progress=progress,
        )
        self._finish(joint, space, stream)
        return self

    def partial_fit(
        self,
        activations: Any,
        labels: torch.Tensor | numpy.ndarray | None = None,
        *,
        progress: Progress | bool | None = None,
    ) -> "CrosscoderITDA":
        """Go on building with further rows, by the means and scales that there are; default labels go on counting.

        Args:
            activations, labels, progress: as in `fit`; an iterator is read once.

        Returns:
            This cross-coder. If the call fails or is interrupted, it stays as it was.

        Raises:
            ShapeError, DTypeError or ValueError that names the argument. A first call needs scales, and centre=False or
            a vector for each site, and a threshold.

        Example:
            >>> crosscoder = CrosscoderITDA(["a", "b"], k=4, centre=False, scales={"a": 1.0, "b": 1.0})
            >>> for batch in torch.randn(10, 50, 8):
            ...     crosscoder = crosscoder.partial_fit({"a": batch, "b": batch[:, :4]})
            >>> crosscoder.report.rows_seen
            500
        """
        fresh = self._joint is None
        if fresh and self._standard.reads:
            raise ValueError(
                "centre, scales: means and scales need all rows before the first; use fit, or give scales, and centre"
                " as {site: (D,) tensor} or False"
            )
        stream = open_sites(activations, labels, self._sites)
        skip = self.settings.skip_nonfinite
        space = self._standard.space(stream, skip=skip)[0] if fresh else self._space
        if space is None:
            return self
        stream.check_widths(space.widths, "the means and the atoms")
        self._views.clear()
        joint = copy(self._empty) if self._joint is None else self._joint
        seen = 0 if fresh else joint.report.rows_seen
        joint.partial_fit(JointRows(stream, space, skip=skip, first_row=seen), progress=progress)
        if fresh and joint._construction is not None:
            self._finish(joint, space, stream)
        return self

    def _finish(self, joint: ITDA, space: Space, stream: SiteStream) -> None:
        joint._source = None
        self._keep(joint, space, facts_of(stream))
        self._source = next((one for one in stream.sources.values() if getattr(one, "tokens", None) is not None), None)

    def encode(
        self,
        x: Rows,
        *,
        sites: Sequence[Site] | None = None,
        precision: str = "exact",
        progress: Progress | bool | None = None,
    ) -> SparseCode:
        """Write rows as sums of atoms, by what all sites show or by what some of them do.

        Shapes:
            {site: (N, D_l)} float32, float64, float16 or bfloat16, N may be 0.

        Args:
            x: rows of all sites, or at least of `sites`, as they are.
            sites: the sites to look at; the others can then be predicted, as by a transcoder. Atoms are brought to unit
                norm at these sites before the search, and those with a norm below 0.001 there are left out.
            precision: "exact" or "fast", as in `matching_pursuit`.
            progress: as in ITDA.fit.

        Returns:
            SparseCode with k picks at most, in coefficients of `atoms` whatever the sites, so that `decode` gives all
            sites; residual_norm is that of the joint rows of the sites looked at.

        Raises:
            ShapeError, DTypeError or ValueError that names x and the site; ValueError before `fit`.

        Example:
            >>> crosscoder = CrosscoderITDA([3, 7], k=4).fit({3: torch.randn(100, 8), 7: torch.randn(100, 8)})
            >>> crosscoder.encode({3: torch.randn(5, 8)}, sites=[3]).indices.shape
            torch.Size([5, 4])
        """
        seen = self._fitted[1].only(check_chosen(sites, self._sites))
        rows = check_rows("x", x, seen.sites, known=self._sites, widths=seen.widths)
        view = self._view(sites, next(iter(rows.values())).device)
        with reporting(progress, "crosscoder encode", " rows") as report:
            return encoding.encode("x", rows, view, self._pursuit, precision=precision, report=report)

    def refit_sites(self, code: SparseCode, x: Rows, *, sites: Sequence[Site] | None = None) -> dict[Site, SparseCode]:
        """Fit each site for itself on the picks that all sites share.

        Args:
            code: what `encode` gave, of all sites or some.
            x: the rows that were encoded.
            sites: those to fit; None takes all, and x must have them.

        Returns:
            {site: SparseCode} for `decode`: the distinct picks of the code, the site's own least squares on them, and
            the norm of its joint row that is left, never above that of the shared code.

        Raises:
            ShapeError, DTypeError or ValueError that names the argument.

        Example:
            >>> x = {"a": torch.randn(100, 8), "b": torch.randn(100, 8)}
            >>> crosscoder = CrosscoderITDA(["a", "b"], k=4).fit(x)
            >>> crosscoder.decode(crosscoder.refit_sites(crosscoder.encode(x), x))["b"].shape
            torch.Size([100, 8])
        """
        space = self._fitted[1].only(check_chosen(sites, self._sites))
        rows = check_rows("x", x, space.sites, known=self._sites, widths=space.widths)
        encoding.check_code("code", code)
        if any(len(values) != len(code) for values in rows.values()):
            raise ShapeError(f"x: expected {len(code)} rows to match code, got {len(next(iter(rows.values())))}")
        check_finite("x", rows)
        return {
            site: encoding.refit(
                code,
                values,
                space.only([site]),
                self.site_atoms[site].to(values.device),
                nonnegative=self.settings.nonnegative,
            )
            for site, values in rows.items()
        }

    def decode(
        self, code: SparseCode | Mapping[Site, SparseCode], *, sites: Sequence[Site] | None = None
    ) -> dict[Site, torch.Tensor]:
        """{site: (N, D_l) float32} activations of codes, in their own units.

        Args:
            code: a code that the sites share, or {site: code} of `refit_sites`.
            sites: those to decode; None takes all that `code` has.
        """
        space = self._fitted[1]
        chosen = check_chosen(list(code) if sites is None and isinstance(code, Mapping) else sites, self._sites)
        codes = entries("code", code, chosen, known=self._sites) if isinstance(code, Mapping) else {}
        decoded = {}
        for site in chosen:
            one = codes.get(site, code)
            encoding.check_code("code" if one is code else named("code", site), one)
            decoded[site] = space.leave(site, one.decode(self.site_atoms[site].to(one.coefficients.device)))
        return decoded

    def fvu(self, x: Any, *, sites: Sequence[Site] | None = None, refit: bool = False) -> dict[Site, float]:
        """Fraction of variance unexplained at each site: sum ||x - x_hat||^2 / sum ||x - mean of x||^2.

        Args:
            x: rows of all sites; anything that `fit` takes and that can be read twice.
            sites: those that codes are taken from; None takes all, and one predicts the others from it.
            refit: fit each site for itself on the shared picks, as `refit_sites` does.
        """
        check_chosen(sites, self._sites)
        refitted, space = boolean("refit", refit), self._fitted[1]
        return fvu(x, space, self.atoms, lambda device: self._view(sites, device), self._pursuit, refitted=refitted)

    def save_pretrained(self, directory: str | os.PathLike[str]) -> Path:
        """Write crosscoder.safetensors and, in the folder joint, what ITDA.save_pretrained writes.

        An earlier cross-coder in the directory is overwritten; a directory with other files is refused.
        """
        return storage.save(self._stored, directory)

    @classmethod
    def from_pretrained(
        cls,
        directory: str | os.PathLike[str],
        *,
        models: Mapping[Site, str] | None = None,
        hooks: Mapping[Site, str] | None = None,
        widths: Mapping[Site, int] | None = None,
        backend: str = "auto",
        threads: int | None = None,
    ) -> "CrosscoderITDA":
        """Read what `save_pretrained` wrote; partial_fit can go on from it.

        Args:
            directory: where it is.
            models, hooks, widths: what to expect of some or all sites; another model, hook point or width is refused.
            backend, threads: as in ITDA.

        Raises:
            FileNotFoundError where there is no cross-coder; ValueError that names the file which is damaged or wrong.
        """
        stored = storage.load(directory, backend=backend, threads=threads)
        storage.check_facts(directory, stored, {"model": models, "hook": hooks, "width": widths})
        settings, space = stored.joint.settings, stored.space
        means = dict(zip(space.sites, space.means, strict=True))
        scales = dict(zip(space.sites, space.scales, strict=True))
        weights = dict(zip(space.sites, space.weights, strict=True))
        names = ("k", "method", "threshold", "max_atoms", "mode", "order", "relative", "nonnegative", "skip_nonfinite")
        new = cls(
            space.sites,
            **{name: getattr(settings, name) for name in names},
            centre=stored.centre if isinstance(stored.centre, bool) else means,
            scales=scales if stored.scales_given else None,
            weights=weights,
            backend=backend,
            threads=threads,
        )
        new._keep(stored.joint, space, stored.facts)
        return new
