"""Activations from anywhere, read in batches as often as the source allows."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy
import pandas
import torch

from interpkern.activations.context import Description, LabelIndex, describe
from interpkern.activations.grouping import regrouped
from interpkern.activations.manifest import MANIFEST, Manifest, read_vocabulary
from interpkern.activations.parts import Part, marked, part_of, taken
from interpkern.activations.readers import parts_of
from interpkern.activations.rows import Rows, check_width, integers, joined
from interpkern.activations.saving import save_rows
from interpkern.activations.stream import Stream, piece_rows
from interpkern.activations.tokenising import words
from interpkern.activations.uploading import uploaded
from interpkern.errors import DTypeError
from interpkern.files import as_path
from interpkern.validation import choice, integer
from interpkern.validation import device as check_device

Batch = tuple[torch.Tensor, torch.Tensor]
NONFINITE = ("keep", "refuse", "skip")
CACHED = ("labels", "tokens", "sha256", "words", "_index")
CHUNK = 1 << 14
"""Rows looked at together, so that a whole file is never in memory."""


class Activations:
    """(N, D) activations with (N, 2) int64 labels, from memory, files, a folder of `collect`, or an iterable.

    Files are memory-mapped (parquet is read by row groups), float64 is given as float32, and row i of a source without
    labels has the label (i, 0).

    Args:
        source: an (N, D) tensor or array; a path to .npy, .safetensors, .parquet or a folder of them, such as `collect`
            writes; a batch (activations, labels) as a tuple; a list of these; any iterable of tensors or of
            (activations, labels); or a function that returns such an iterable, so that it can be read again.
        labels: (N, 2) integers (prompt id, position), to take the place of the source's.
        tokens: (N,) token ids, to take the place of the source's.
        key: the tensor of a .safetensors file or the column of a parquet file; by default "activations", or the only
            one.
        tokenizer: a transformers tokenizer, for the words of `describe` where the source brings none.
        verify: compare the checksum of each shard of `collect` when it is first read.

    Raises:
        ValueError: a damaged or missing file, or a folder that is not complete; it is named.
        ShapeError, DTypeError: a piece that is not (N, D) floats, as wide as the others.

    Example:
        >>> activations = Activations(torch.randn(100, 16))
        >>> [len(batch) for batch, labels in activations.batches(64)]
        [64, 36]
    """

    def __init__(
        self,
        source: Any,
        *,
        labels: torch.Tensor | numpy.ndarray | None = None,
        tokens: torch.Tensor | numpy.ndarray | None = None,
        key: str | None = None,
        tokenizer: Any = None,
        verify: bool = True,
    ) -> None:
        self._device: torch.device | None = None
        self._tokenizer = tokenizer
        self._vocabulary: Mapping[int, str] = {}
        self._stream: Stream | None = None
        self._parts: list[Part] | None = None
        self.origin: Mapping[str, Any] = {}
        if _is_stream(source):
            self._stream = Stream(source)
        else:
            self._parts = _parts_of_list(source if isinstance(source, list) else [source], key, verify=verify)
        if isinstance(source, (str, PathLike)) and (Path(source) / MANIFEST).exists():
            self.origin = Manifest.read(Path(source)).settings
            self._vocabulary = read_vocabulary(Path(source))
        if labels is not None or tokens is not None:
            self._parts = marked(self._sized("labels, tokens"), labels, tokens)

    def __len__(self) -> int:
        return sum(part.rows for part in self._sized("len"))

    def __repr__(self) -> str:
        rows = "?" if self._parts is None else f"{len(self):,}"
        model = f" of {self.origin['model']} at {self.origin['hook']}" if "hook" in self.origin else ""
        return f"Activations({rows} x {self.width}{model})"

    def __iter__(self) -> Iterator[Batch]:
        return self.batches()

    def to(self, device: str | torch.device) -> "Activations":
        """The same source, whose batches come on "cuda" or "cuda:1", so that what reads them works there.

        They are uploaded as they are stored, through two pinned buffers while the batch before is worked on.

        Example:
            >>> Activations(torch.randn(100, 16)).to("cpu").tensor().device
            device(type='cpu')
        """
        found = object.__new__(Activations)
        found.__dict__ = dict(self.__dict__)
        found._device = check_device("device", device)
        return found

    @property
    def rereadable(self) -> bool:
        """Whether `batches` can be called again; False for a generator."""
        return self._stream is None or self._stream.rereadable

    @property
    def width(self) -> int:
        """D."""
        return self._sized("width")[0].width if self._stream is None else self._stream.width

    @cached_property
    def labels(self) -> torch.Tensor | None:
        """(N, 2) int64 prompt ids and positions; None for an iterable, whose batches bring them."""
        return None if self._parts is None else self._labels()

    @cached_property
    def tokens(self) -> torch.Tensor | None:
        """(N,) int64 token ids, None where the source has none."""
        found = [part.load().tokens for part in self._parts or ()]
        known = [tokens for tokens in found if tokens is not None]
        return torch.cat(known) if known and len(known) == len(found) else None

    def batches(self, size: int = 4096, *, nonfinite: str = "keep") -> Iterator[Batch]:
        """Give all rows in order, `size` at a time and fewer at the end, whatever pieces the source has.

        Args:
            size: rows in a batch.
            nonfinite: keep rows with NaN or infinity, as stored; refuse them by name; or skip them.

        Returns:
            Iterator: (n, D) activations as stored, float64 as float32, on the device of `to` or where they lie; and
            (n, 2) int64 labels on the CPU.
        """
        size = integer("size", size, 1)
        rule = choice("nonfinite", nonfinite, NONFINITE)
        groups = self._groups(rule, size)
        groups = groups if self._device is None else uploaded(groups, self._device)
        return ((rows.activations, rows.labels) for rows in groups)

    def tensor(self) -> torch.Tensor:
        """All (N, D) activations in memory, as `batches` gives them."""
        batches = [batch for batch, _ in self.batches()]
        return torch.cat(batches) if batches else torch.empty(0, self.width)

    def __getitem__(self, rows: slice | torch.Tensor) -> "Activations":
        """Some rows, with the labels they have here: a slice, or a (N,) bool mask."""
        found = object.__new__(Activations)
        found.__dict__ = {name: value for name, value in self.__dict__.items() if name not in CACHED}
        found._parts = taken(self._sized("rows"), rows)
        return found

    @cached_property
    def sha256(self) -> str:
        """A hash of dtype, width, activations and labels, the same for any division into files or pieces."""
        if not self.rereadable:
            raise ValueError("sha256: this source can be read once; write it to a folder with .save() first")
        values, marks, form = hashlib.sha256(), hashlib.sha256(), ""
        for batch, labels in ((rows.activations, rows.labels) for rows in self._groups("keep", CHUNK)):
            values.update(batch.cpu().contiguous().view(torch.uint8).numpy().data)
            marks.update(labels.contiguous().numpy().data)
            form = f"{batch.dtype} {batch.shape[1]}"
        return hashlib.sha256(form.encode() + values.digest() + marks.digest()).hexdigest()

    def find(self, labels: torch.Tensor) -> torch.Tensor:
        """(n,) int64 row numbers of (n, 2) labels; -1 where there is no such row, the first where there are several."""
        return self._index.find(integers("labels", labels, (len(labels), 2)))

    def describe(self, prompt_id: int, position: int, *, window: int = 8) -> Description:
        """The token of a row, and up to `window` tokens before and after it.

        Example:
            >>> print(interpkern.data.load("minilm").describe(0, 5))  # doctest: +SKIP
        """
        if self.tokens is None:
            raise ValueError("tokens: this source has no token ids; give tokens= when you open it")
        wanted = integer("prompt_id", prompt_id, -(1 << 62)), integer("position", position, -(1 << 62))
        return describe(self._index, self.tokens, self.words, *wanted, integer("window", window, 0))

    @cached_property
    def words(self) -> Mapping[int, str]:
        """The text of each token id that occurs."""
        if self._vocabulary or self._tokenizer is None or self.tokens is None:
            return self._vocabulary
        return words(self._tokenizer, self.tokens.tolist())

    def save(self, folder: str | Path, *, rows_per_shard: int = 1 << 16) -> "Activations":
        """Write all rows to a new folder of shards, as `collect` does, and open it; for what can be read only once."""
        target, size = as_path("folder", folder), integer("rows_per_shard", rows_per_shard, 1)
        save_rows(self._groups("keep", size), target, self.origin, self.words)
        return Activations(target)

    def to_pandas(self) -> pandas.DataFrame:
        """A table of all rows: prompt_id, position, norm, and token_id and token where they are known."""
        norms = [
            torch.linalg.vector_norm(rows.activations, dim=1, dtype=torch.float32).cpu()
            for rows in self._groups("keep", CHUNK)
        ]
        prompts, positions = self._labels().T.numpy()
        table = pandas.DataFrame(
            {"prompt_id": prompts, "position": positions, "norm": torch.cat([torch.empty(0), *norms]).numpy()}
        )
        if self.tokens is not None:
            table["token_id"] = self.tokens.numpy()
            table["token"] = table["token_id"].map(self.words)
        return table

    @cached_property
    def _index(self) -> LabelIndex:
        self._sized("find")
        return LabelIndex(self._labels())

    def _labels(self) -> torch.Tensor:
        return torch.cat([part.load().labels for part in self._sized("labels")])

    def _sized(self, wanted: str) -> list[Part]:
        if self._parts is None:
            raise DTypeError(f"{wanted}: an iterable is read piece by piece; write it to a folder with .save() first")
        return self._parts

    def _groups(self, rule: str, size: int) -> Iterator[Rows]:
        return regrouped(self._rows(rule), size, Rows.as_stored_or_float32, joined)

    def _rows(self, rule: str) -> Iterator[Rows]:
        pieces = self._stream if self._stream is not None else (part.load() for part in self._sized("rows"))
        for rows in pieces:
            for start in range(0, len(rows), CHUNK):
                piece = rows[start : start + CHUNK]
                yield piece if rule == "keep" else piece.finite(skip=rule == "skip")


def _is_stream(source: Any) -> bool:
    if isinstance(source, Activations):
        raise DTypeError("source: these are Activations already; use them as they are")
    if isinstance(source, (torch.Tensor, numpy.ndarray, str, PathLike, list, tuple)):
        return False
    if callable(source) or isinstance(source, Iterable):
        return True
    raise DTypeError(
        "source: expected a tensor, an array, a path, an iterable of tensors or a function that returns one, "
        f"got {type(source).__name__}"
    )


def _parts_of_list(pieces: list[Any], key: str | None, *, verify: bool) -> list[Part]:
    parts: list[Part] = []
    for number, piece in enumerate(pieces):
        first = sum(part.rows for part in parts)
        if isinstance(piece, (str, PathLike)):
            parts += parts_of(Path(piece), first, key, verify=verify)
        else:
            name = "activations" if len(pieces) == 1 else f"activations, piece {number}"
            parts.append(part_of(name, piece_rows(name, piece, first)))
    if not parts:
        raise ValueError("source: expected at least one piece of activations, got none")
    for part in parts:
        check_width(part.name, part.width, parts[0].width)
    return parts
