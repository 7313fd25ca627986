"""ITDA: a dictionary whose atoms are activations, each with the label of the token that it was taken from."""

import os
from collections.abc import Mapping
from copy import copy
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy
import pandas
import torch

from interpkern.errors import DTypeError
from interpkern.itda import encoding, storage
from interpkern.itda.atoms import Atoms
from interpkern.itda.built import Built
from interpkern.itda.checkpoint import Checkpoint
from interpkern.itda.construction import Construction, Digest
from interpkern.itda.fitting import Fit, check_partial, chunks_of, feed, first_chunk, started
from interpkern.itda.pursuit import Pursuit
from interpkern.itda.settings import Settings, check_centre, check_width
from interpkern.itda.storage import Stored
from interpkern.itda.streams import Stream, open_stream
from interpkern.ops.sparse_code import SparseCode
from interpkern.progress import Progress, reporting
from interpkern.validation import device as check_device

CHECKPOINT_EVERY = 65_536
UNKNOWN = {"id": None, "model": None, "hook": None, "tokenizer_sha256": None}


class ITDA(Built):
    """Inference-time decomposition of activations: sparse codes over a dictionary of activations.

    A row of activations becomes an atom when the dictionary as it stands at the row's turn leaves more of it than
    `threshold`. In exact mode the dictionary depends on the rows, their order and the settings alone: batches and
    threads don't show.

    Everything happens where the activations lie: those on a GPU are never moved but to be hashed, and the dictionary
    and its Gram grow there.

    Args:
        k: picks of a sample at most.
        method: "mp" (the paper's), "mp_refit" or "omp", as in `matching_pursuit`.
        threshold: loss above which a row becomes an atom: ||x - x_hat||^2 / ||x||^2 after centring, in [0, 1), where
            anything below 1e-12 counts as rounding. None looks for the threshold that gives `max_atoms` atoms, or up to
            1 % fewer, by fitting many times.
        centre: take off the mean of the data (True), nothing (False), or this (D,) vector. The mean is that of the rows
            whose norm is at most 10 times the median: a few tokens of some language models are longer than all others
            together.
        max_atoms: atoms at which the dictionary is full, and later rows are not tested.
        mode: "exact", or "fast": each batch is screened against the dictionary as it stands before, and only the rows
            that fail are tested in order; the result depends on the batches.
        order: "given", or "canonical": rows sorted by a hash of their label, for data that are at hand as a whole.
        relative: False measures loss and threshold as ||x - x_hat||^2, in the squared units of x.
        nonnegative: allow only coefficients >= 0.
        skip_nonfinite: leave out rows with NaN or infinity and count them, instead of refusing them by name.
        backend: that of `matching_pursuit`: auto, cuda, triton, cpu or reference.
        threads: CPU threads; None takes PyTorch's number.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Source:
        Leask, Nanda and Al Moubayed 2025, "Inference-Time Decomposition of Activations (ITDA)", section 3; centring,
        the relative threshold and exact mode are ours.

    Example:
        >>> itda = ITDA(k=8, threshold=0.3).fit(torch.randn(2000, 32))
        >>> code = itda.encode(torch.randn(5, 32))
        >>> itda.decode(code).shape, itda.labels.shape == (len(itda), 2)
        (torch.Size([5, 32]), True)
    """

    def __init__(
        self,
        k: int = 32,
        method: str = "omp",
        threshold: float | None = 0.15,
        centre: bool | torch.Tensor | numpy.ndarray = True,
        max_atoms: int | None = None,
        mode: str = "exact",
        *,
        order: str = "given",
        relative: bool = True,
        nonnegative: bool = False,
        skip_nonfinite: bool = False,
        backend: str = "auto",
        threads: int | None = None,
    ) -> None:
        self._centre = check_centre(centre)
        self._settings = Settings(
            k=k,
            method=method,
            threshold=threshold,
            centre=self._centre if isinstance(self._centre, bool) else "given",
            max_atoms=max_atoms,
            mode=mode,
            order=order,
            relative=relative,
            nonnegative=nonnegative,
            skip_nonfinite=skip_nonfinite,
        )
        self._pursuit = Pursuit(self._settings.k, method, self._settings.nonnegative, backend, threads)
        self._construction: Construction | None = None
        self._data: dict[str, Any] = dict(UNKNOWN)

    def fit(
        self,
        activations: Any,
        labels: torch.Tensor | numpy.ndarray | None = None,
        *,
        data_id: str | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: int = CHECKPOINT_EVERY,
        progress: Progress | bool | None = None,
    ) -> "ITDA":
        """Build the dictionary anew.

        Shapes:
            activations (N, D) float32, float64, float16 or bfloat16, in batches or whole; labels (N, 2) integers.

        Args:
            activations: a tensor or array (a memory map is read piece by piece), interpkern.Activations, or an iterable
                of (activations, labels) batches or of activations. With centre=True it is read twice.
            labels: prompt id and position of each row, for a tensor or array; by default (row number, 0).
            data_id: what the data are called, kept in the files.
            checkpoint: a directory for this fit alone; the same call goes on from there after being killed, and gives
                the same dictionary to the last bit.
            checkpoint_every: rows between checkpoints.
            progress: a function of (rows, rows in all or 0), True or False for a bar or none; by default a bar on a
                terminal.

        Returns:
            This ITDA. If the fit fails or is interrupted, it stays as it was.

        Raises:
            ShapeError, DTypeError or ValueError that names the argument, and the row where one is not finite.

        Example:
            >>> ITDA(k=4).fit([(torch.randn(50, 8), None), (torch.randn(50, 8), None)]).report.rows_seen
            100
        """
        if not isinstance(data_id, (str, type(None))):
            raise DTypeError(f"data_id: expected a name, got {type(data_id).__name__}")
        stream = open_stream(activations, labels, order=self._settings.order)
        kept = None if checkpoint is None else Checkpoint(checkpoint, checkpoint_every)
        fit = Fit(self._settings, self._centre, self._pursuit, stream, progress)
        self._finish(fit.run(kept), stream, data_id)
        return self

    def partial_fit(
        self,
        activations: Any,
        labels: torch.Tensor | numpy.ndarray | None = None,
        *,
        progress: Progress | bool | None = None,
    ) -> "ITDA":
        """Go on building with further rows; default labels go on counting.

        Args:
            activations, labels, progress: as in `fit`; an iterator is read once.

        Returns:
            This ITDA. If the call fails or is interrupted, it stays as it was.

        Raises:
            ShapeError, DTypeError or ValueError that names the argument. A first call needs centre=False or the mean as
            a (D,) tensor, and a threshold.

        Example:
            >>> itda = ITDA(k=4, centre=False)
            >>> for batch in torch.randn(10, 50, 8):
            ...     itda = itda.partial_fit(batch)
            >>> itda.report.rows_seen
            500
        """
        check_partial(self._settings, self._centre, started=self._construction is not None)
        stream = open_stream(activations, labels, order=self._settings.order)
        first_row = 0 if self._construction is None else self._construction.counts.rows_seen
        chunks, width = first_chunk(chunks_of(stream, self._settings, first_row))
        if width is None:
            return self
        fresh = self._construction is None
        construction = self._construction or started(self._settings, self._centre, self._pursuit, width)
        check_width("activations", width, len(construction.mean), "the mean and the atoms")
        mark = construction.mark()
        try:
            feed(construction, chunks, stream, None, progress)
        except BaseException:
            construction.go_back(mark)
            raise
        if fresh:
            self._finish(construction, stream, None)
        elif stream.source is not self._source:
            self._source = None
        return self

    def _finish(self, construction: Construction, stream: Stream, data_id: str | None) -> None:
        origin = getattr(stream.source, "origin", {})
        data = {name: origin.get(name) for name in UNKNOWN} | {"id": data_id}
        known = getattr(stream.source, "tokens", None) is not None
        self._construction, self._data, self._source = construction, data, stream.source if known else None

    @property
    def _built(self) -> Construction:
        if self._construction is None:
            raise ValueError("ITDA: this one has no dictionary yet; call fit(activations) first, or from_pretrained")
        return self._construction

    def encode(
        self, x: torch.Tensor | numpy.ndarray, *, precision: str = "exact", progress: Progress | bool | None = None
    ) -> SparseCode:
        """Write activations as sums of atoms.

        Shapes:
            x (N, D) float32, float64, float16 or bfloat16, N may be 0; centred and encoded in float32.

        Args:
            x: activations, not centred.
            precision: "exact" or "fast", as in `matching_pursuit`.
            progress: as in `fit`.

        Returns:
            SparseCode of the centred activations, with k picks at most; atom i is `atoms[i]`, of `labels[i]`.

        Raises:
            ShapeError, DTypeError or ValueError that names x; ValueError before `fit`.

        Example:
            >>> ITDA(k=4).fit(torch.randn(100, 8)).encode(torch.randn(3, 8)).indices.shape
            torch.Size([3, 4])
        """
        built = self._built
        with reporting(progress, "itda encode", " rows") as report:
            return encoding.encode(x, built.atoms, built.mean, self._pursuit, precision=precision, report=report)

    def decode(self, code: SparseCode) -> torch.Tensor:
        """(N, D) float32 activations of codes, where these lie: the sum of their atoms, plus the mean."""
        if not isinstance(code, SparseCode):
            raise DTypeError(f"code: expected the SparseCode of encode, got {type(code).__name__}")
        device = code.coefficients.device
        return code.decode(self._built.atoms.gram_on(device).atoms) + self.mean.to(device)

    def fvu(self, x: Any) -> float:
        """Fraction of variance unexplained: sum ||x - x_hat||^2 / sum ||x - mean of x||^2, both over all rows of x.

        The sums are in float64; x is anything that `fit` takes and that can be read twice.
        """
        built = self._built
        return encoding.fvu(x, built.atoms, built.mean, self._pursuit)

    def to(self, device: str | torch.device) -> "ITDA":
        """The same dictionary on "cpu", "cuda" or "cuda:1"; `partial_fit` brings it back to where its rows are.

        Encoding and decoding need it on no device in particular: they happen where their input lies.

        Example:
            >>> ITDA(k=4).fit(torch.randn(100, 8)).to("cpu").atoms.device
            device(type='cpu')
        """
        wanted = check_device("device", device)
        if wanted == self.mean.device:
            return self
        new = copy(self)
        new._construction = self._built.on(wanted)
        return new

    @property
    def atoms(self) -> torch.Tensor:
        """(M, D) float32 unit rows: centred activations, on the device of those; a view, not to be written to."""
        return self._built.atoms.values

    @property
    def mean(self) -> torch.Tensor:
        """(D,) float32, taken off before encoding; zeros for centre=False."""
        return self._built.mean

    @property
    def settings(self) -> Settings:
        """The arguments that decide the dictionary."""
        return self._settings

    @property
    def data(self) -> Mapping[str, Any]:
        """What is known of the activations: sha256 of the rows that were tested; id, model, hook, tokenizer_sha256."""
        return self._data | {"sha256": self._built.digest.hex()}

    def __len__(self) -> int:
        return 0 if self._construction is None else len(self._construction.atoms)

    def __repr__(self) -> str:
        s = self._settings
        size = "not fitted" if self._construction is None else f"atoms={len(self)}, width={len(self.mean)}"
        return f"ITDA({size}, k={s.k}, method={s.method!r}, threshold={s.threshold}, mode={s.mode!r})"

    def to_pandas(self) -> pandas.DataFrame:
        """One row an atom: prompt_id, position, token_id, source_norm, birth_step, admission_loss.

        source_norm is the norm of the centred activation, birth_step the number of rows before it in the stream,
        admission_loss its loss at that moment, in the units of the threshold.
        """
        return self._built.atoms.to_pandas()

    def save_pretrained(self, directory: str | os.PathLike[str]) -> Path:
        """Write cfg.json, sae_weights.safetensors, atoms.parquet and provenance.json; the same for the same dictionary.

        An earlier dictionary in the directory is overwritten; a directory with other files is refused.
        """
        built = self._built
        return storage.save(
            Stored(
                settings=self._settings,
                threshold=built.threshold,
                atoms=built.atoms.values.cpu(),
                records=built.atoms.records,
                mean=built.mean.cpu(),
                counts=built.counts,
                data=dict(self.data),
            ),
            directory,
        )

    @classmethod
    def from_pretrained(
        cls,
        directory: str | os.PathLike[str],
        *,
        model: str | None = None,
        hook: str | None = None,
        width: int | None = None,
        backend: str = "auto",
        threads: int | None = None,
    ) -> "ITDA":
        """Read what `save_pretrained` wrote; partial_fit can go on from it.

        Args:
            directory: where it is.
            model, hook, width: refuse a dictionary of another model, hook point or width of activations.
            backend, threads: as in ITDA.

        Raises:
            FileNotFoundError where there is no dictionary; ValueError that names the file which is damaged or wrong.
        """
        stored = storage.load(directory)
        found = {"model": stored.data.get("model"), "hook": stored.data.get("hook"), "width": stored.atoms.shape[1]}
        for name, wanted in {"model": model, "hook": hook, "width": width}.items():
            if wanted is not None and wanted != found[name]:
                raise ValueError(f"{name}: {Path(directory) / storage.CONFIG} has {found[name]!r}, expected {wanted!r}")
        return cls._of(stored, backend=backend, threads=threads)

    @classmethod
    def _of(cls, stored: Stored, *, backend: str, threads: int | None) -> "ITDA":
        settings = {field.name: getattr(stored.settings, field.name) for field in fields(stored.settings)}
        centre = stored.mean if settings["centre"] == "given" else settings["centre"]
        itda = cls(**settings | {"centre": centre}, backend=backend, threads=threads)
        construction = Construction(
            stored.settings,
            stored.mean,
            itda._pursuit,
            threshold=stored.threshold,
            atoms=Atoms.restored(stored.atoms, stored.records, stored.settings.max_atoms, threads),
            digest=Digest(stored.data["sha256"]),
            counts=stored.counts,
        )
        itda._construction = construction
        itda._data = {name: stored.data.get(name) for name in UNKNOWN}
        return itda

    def _with(self, construction: Construction) -> "ITDA":
        """Another one of the same settings, with this dictionary."""
        new = copy(self)
        new._construction, new._data, new._source = construction, dict(UNKNOWN), None
        return new
