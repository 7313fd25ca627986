"""A GPU that is not there: tensors that say they are on cuda:0, lie in the CPU's memory, and mix with no others."""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

from interpkern.ops.matching_pursuit_library import _matching_pursuit

DEVICE = torch.device("cuda", 0)
aten = torch.ops.aten
INDEXED = (aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default)
"""May take indices on the CPU."""


class OnGPU(torch.Tensor):
    """A tensor on the imagined device; PyTorch's own code takes it for one on the CPU, as there is no CUDA to ask."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "OnGPU":
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), inner.stride(), inner.storage_offset(), dtype=inner.dtype, device="cpu"
        )

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner

    @property
    def device(self) -> torch.device:
        return DEVICE

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def cpu(self) -> torch.Tensor:
        _record(self.numel())
        return self.inner.clone()

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class FakeGPU(TorchFunctionMode):
    """While it lasts, "cuda" names the imagined device; `moves` are (function of ours, numbers) that left it."""

    current: "FakeGPU | None" = None

    def __init__(self) -> None:
        super().__init__()
        self.moves: list[tuple[str, int]] = []
        self._before: list[FakeGPU | None] = []

    def __enter__(self) -> "FakeGPU":
        self._before.append(FakeGPU.current)
        FakeGPU.current = self
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        FakeGPU.current = self._before.pop()
        super().__exit__(*exception)

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.to:
            return _moved(*args, **kwargs)
        if func is torch.nn.functional.embedding_bag and isinstance(args[0], OnGPU):
            return OnGPU(func(*_inner(args), **_inner(kwargs)))  # it makes tensors on the device that it sees
        if _names_it(kwargs.get("device")) and not any(isinstance(part, torch.Tensor) for part in args):
            return OnGPU(func(*args, **{**kwargs, "device": "cpu"}))
        return func(*args, **kwargs)


def _moved(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """Tensor.to."""
    device = kwargs.pop("device", None)
    for part in args:
        device = part if isinstance(part, (str, torch.device)) else device
    rest = [part for part in args if not isinstance(part, (str, torch.device))]
    if device is not None and _names_it(device) != isinstance(tensor, OnGPU):
        tensor = tensor.cpu() if isinstance(tensor, OnGPU) else OnGPU(tensor.clone())
    return torch.Tensor.to(tensor, *rest, **kwargs) if rest or kwargs else tensor


def _inner(tree: Any) -> Any:
    return tree_map(lambda part: part.inner if isinstance(part, OnGPU) else part, tree)


def _names_it(value: Any) -> bool:
    return isinstance(value, (str, torch.device)) and torch.device(value).type == "cuda"


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    if func is torch.ops.interpkern.matching_pursuit.default:
        with FakeGPU.current or FakeGPU():
            return _matching_pursuit(*args)
    flat = [part for part in tree_flatten((args, kwargs))[0] if isinstance(part, torch.Tensor)]
    owners = {id(part.inner): part for part in flat if isinstance(part, OnGPU)}
    strangers = [part for part in flat if not isinstance(part, OnGPU) and part.ndim > 0]
    to_host = func is aten.copy_.default and not isinstance(args[0], OnGPU)
    if strangers and func not in (*INDEXED, aten.copy_.default):
        raise RuntimeError(f"{func}: tensors on cuda:0 and on the CPU")
    if to_host or func is aten._local_scalar_dense.default:
        _record(flat[-1].numel())
    plain_args, plain = _inner(args), _inner(dict(kwargs))
    if "device" in plain:
        plain["device"] = torch.device("cpu")
    out = func(*plain_args, **plain)
    if to_host:
        return out
    return tree_map(lambda part: owners.get(id(part), OnGPU(part)) if isinstance(part, torch.Tensor) else part, out)


def _record(numbers: int) -> None:
    """Notes who moved numbers to the host; `host` of the lab moves them for its callers."""
    frame: Any = sys._getframe()
    while frame is not None and ("interpkern/" not in frame.f_code.co_filename or frame.f_code.co_name == "host"):
        frame = frame.f_back
    if FakeGPU.current is not None and frame is not None:
        FakeGPU.current.moves.append((frame.f_code.co_qualname, numbers))
