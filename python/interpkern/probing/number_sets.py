"""Activations of numbers, one row a number and layer, in memory or in a file that is read layer by layer."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes

from interpkern.errors import DTypeError, ShapeError
from interpkern.files import as_path, write_atomically
from interpkern.validation import FLOATS, Dimensions, integer, plain_tensor, short

KIND = "interpkern.numbers"
SCHEMA = 1
LAYER = "layer."
COLUMNS = ("positions", "token_counts")
ACCEPTED = ".safetensors, .npz or .npy"


class StoredLayers(Mapping[int, torch.Tensor]):
    """The layers of a safetensors file; each is read when it is asked for."""

    def __init__(self, path: Path, names: Mapping[int, str]) -> None:
        self._path, self._names = path, dict(sorted(names.items()))

    def __getitem__(self, layer: int) -> torch.Tensor:
        with safe_open(self._path, "pt") as file:
            found: torch.Tensor = file.get_tensor(self._names[layer])
        return found

    def __iter__(self) -> Iterator[int]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"StoredLayers({self._path}, layers {', '.join(map(str, self))})"


@dataclass(frozen=True)
class NumberActivations:
    """What a model holds at the last token of each of some numbers, at some layers.

    `found[layer]` is (N, D); all analyses of the lab take it with `found.numbers`, so none needs the model again.

    Args:
        numbers: (N,) integers or floats, one a row.
        activations: {layer: (N, D) floats}; layer l is the input of block l unless `origin` says otherwise.
        positions: (N,) int64 positions of the number's last token, where they are known.
        token_counts: (N,) int64 tokens that each number takes, where they are known.
        origin: model, hook, prefix, and hashes of tokenizer and weights, as far as they are known.

    Raises:
        ShapeError, DTypeError: what is no array of that shape; it is named.

    Example:
        >>> found = interpkern.data.numbers("minilm")
        >>> found.layers, tuple(found[3].shape)
        ((0, 1, 2, 3, 4, 5, 6), (352, 384))
    """

    numbers: torch.Tensor
    activations: Mapping[int, torch.Tensor]
    positions: torch.Tensor | None = None
    token_counts: torch.Tensor | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = Dimensions()
        numbers = sizes.tensor("numbers", _as_tensor("numbers", self.numbers), "N", (*FLOATS, torch.int64))
        object.__setattr__(self, "numbers", numbers)
        for name in COLUMNS:
            column = getattr(self, name)
            if column is not None:
                column = sizes.tensor(name, _as_tensor(name, column), "N", (torch.int64,))
                object.__setattr__(self, name, column)
        if not isinstance(self.activations, Mapping) or not self.activations:
            raise DTypeError(f"activations: expected {{layer: (N, D) tensor}}, got {type(self.activations).__name__}")
        if not isinstance(self.activations, StoredLayers):
            layers = {
                integer("layer", layer, -1): sizes_of(sizes, layer, self.activations[layer])
                for layer in sorted(self.activations)
            }
            object.__setattr__(self, "activations", layers)

    def __getitem__(self, layer: int) -> torch.Tensor:
        """(N, D) activations of a layer, as stored."""
        if layer not in self.activations:
            raise ValueError(f"layer: expected one of {', '.join(map(str, self.layers))}, got {layer!r}")
        return self.activations[layer]

    def __len__(self) -> int:
        return len(self.numbers)

    def __repr__(self) -> str:
        layers = ", ".join(map(str, self.layers))
        return f"NumberActivations({len(self)} numbers {self.span} of {self.name}, layers {layers})"

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers, in order."""
        return tuple(self.activations)

    @property
    def span(self) -> str:
        """The smallest and the largest number."""
        return f"{self.numbers.min():g} to {self.numbers.max():g}"

    @property
    def name(self) -> str:
        """What to call the model."""
        return str(self.origin.get("model") or "a model")

    @property
    def digit_split(self) -> bool | None:
        """Whether the tokenizer splits any of the numbers; None where it is not known."""
        return None if self.token_counts is None else bool((self.token_counts > 1).any())

    def at(self, layers: tuple[int, ...]) -> "NumberActivations":
        """The same with these layers alone."""
        kept = {layer: self[layer] for layer in layers}
        return NumberActivations(self.numbers, kept, self.positions, self.token_counts, self.origin)

    def save(self, path: str | Path, *, dtype: torch.dtype | None = None) -> Path:
        """Write everything to one safetensors file, which `load` reads layer by layer.

        Args:
            path: the file.
            dtype: of the activations in the file, such as torch.float16; by default as they are.
        """
        target = as_path("path", path)
        tensors = {f"{LAYER}{layer}": self[layer].to(dtype or self[layer].dtype) for layer in self.layers}
        for layer, tensor in tensors.items():
            if not bool(torch.isfinite(tensor).all()):
                raise ValueError(f"dtype: {layer} has numbers that are too large for {short(tensor.dtype)}")
        tensors |= {"numbers": self.numbers}
        tensors |= {name: getattr(self, name) for name in COLUMNS if getattr(self, name) is not None}
        about = {KIND: json.dumps({"schema": SCHEMA, "origin": dict(self.origin)})}
        content = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        write_atomically(target, safetensors_bytes(content, metadata=about))
        return target

    @staticmethod
    def load(path: str | Path, *, numbers: Any = None) -> "NumberActivations":
        """Open a file of `save`, or arrays of your own.

        Args:
            path: a .safetensors or .npz file with `numbers` (N,) and either `activations` (N, D) or a `layer.K` (N, D)
                for each layer; or a .npy file of (N, D) or (layers, N, D) activations.
            numbers: (N,), to take the place of the file's; a .npy file needs them.

        Returns:
            NumberActivations: of a safetensors file, each layer is read when it is used.

        Raises:
            ValueError: a file that is missing, damaged, or without what is needed; it is named.
            ShapeError: arrays that don't match.
        """
        file = as_path("path", path)
        if file.suffix not in READERS or not file.is_file():
            raise ValueError(f"path: expected a file {ACCEPTED}, got {file}{'' if file.exists() else ', not there'}")
        try:
            return READERS[file.suffix](file, numbers)
        except (SafetensorError, OSError, EOFError, json.JSONDecodeError) as error:
            raise ValueError(f"path: {file} cannot be read ({error})") from None


def sizes_of(sizes: Dimensions, layer: int, values: Any) -> torch.Tensor:
    """A layer's (N, D) floats, checked against what `sizes` knows."""
    return sizes.tensor(f"activations[{layer}]", values, "N D", FLOATS)


def _as_tensor(name: str, value: Any) -> torch.Tensor:
    """A column as a tensor: int64 where it holds integers of any width."""
    tensor = plain_tensor(name, numpy.asarray(value) if isinstance(value, (list, tuple, range)) else value)
    return tensor if tensor.is_floating_point() else tensor.to(torch.int64)


def _from_safetensors(path: Path, numbers: Any) -> NumberActivations:
    with safe_open(path, "pt") as file:
        keys, about = set(file.keys()), file.metadata() or {}
        columns = {name: file.get_tensor(name) for name in ("numbers", *COLUMNS) if name in keys}
        names = _layer_names(path, keys)
        sizes = {names[layer]: tuple(file.get_slice(names[layer]).get_shape()) for layer in names}
    given = columns.pop("numbers", None) if numbers is None else numbers
    found = NumberActivations(
        _needed(path, given), StoredLayers(path, names), **columns, origin=_origin(path, about.get(KIND))
    )
    for name, shape in sizes.items():
        if len(shape) != 2 or shape[0] != len(found):
            raise ShapeError(f"path: {path}: {name} is {shape}, expected ({len(found)}, D) to match numbers")
    return found


def _origin(path: Path, about: str | None) -> dict[str, Any]:
    """What `save` wrote of where the rows come from; nothing for a file of others."""
    if about is None:
        return {}
    record = json.loads(about)
    if record.get("schema") != SCHEMA:
        raise ValueError(f"path: {path} has schema {record.get('schema')} of {KIND}, expected {SCHEMA}")
    found: dict[str, Any] = record["origin"]
    return found


def _from_npz(path: Path, numbers: Any) -> NumberActivations:
    try:
        with numpy.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except ValueError as error:
        raise ValueError(f"path: {path} cannot be read ({error})") from None
    layers = {layer: arrays[name] for layer, name in _layer_names(path, set(arrays)).items()}
    columns = {name: arrays[name] for name in COLUMNS if name in arrays}
    return NumberActivations(_needed(path, arrays.get("numbers") if numbers is None else numbers), layers, **columns)


def _from_npy(path: Path, numbers: Any) -> NumberActivations:
    try:
        array = numpy.load(path, allow_pickle=False)
    except ValueError as error:
        raise ValueError(f"path: {path} cannot be read ({error})") from None
    if array.ndim not in (2, 3):
        raise ShapeError(f"path: {path}: expected (N, D) or (layers, N, D), got {array.shape}")
    layers = dict(enumerate(array if array.ndim == 3 else array[None]))
    return NumberActivations(_needed(path, numbers), layers)


def _layer_names(path: Path, keys: set[str]) -> dict[int, str]:
    """The name of each layer's array; activations alone are layer 0."""
    names = {int(key.removeprefix(LAYER)): key for key in keys if key.removeprefix(LAYER).isdigit() and LAYER in key}
    if not names and "activations" in keys:
        return {0: "activations"}
    if not names:
        raise ValueError(f"path: {path} holds {', '.join(sorted(keys))}; expected `activations`, or `layer.0` and on")
    return dict(sorted(names.items()))


def _needed(path: Path, numbers: Any) -> Any:
    if numbers is None:
        raise ValueError(f"numbers: {path} holds none; give numbers=, one a row")
    return numbers


READERS = {".safetensors": _from_safetensors, ".npz": _from_npz, ".npy": _from_npy}
