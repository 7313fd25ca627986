"""Rows wherever they lie: work on them stays there, and what is decided by comes to the host.

On the CPU NumPy does it, since PyTorch wakes threads that would go on spinning beside the kernel that is called next.
"""

import numpy
import torch
from numpy.typing import NDArray


def host(tensor: torch.Tensor) -> numpy.ndarray:
    """Its numbers for decisions on the host; shared with a tensor on the CPU."""
    return tensor.cpu().numpy()


def norms(x: torch.Tensor) -> NDArray[numpy.float64]:
    """(N,) norms of float32 rows, each summed in the same order whatever rows are beside it."""
    if x.device.type == "cpu":
        return numpy.sqrt(numpy.square(x.numpy(), dtype=numpy.float64).sum(axis=1))
    return host(x.double().square().sum(1).sqrt())


def centred(x: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Rows less their mean."""
    return torch.from_numpy(x.numpy() - mean.numpy()) if x.device.type == "cpu" else x - mean


def units(x: torch.Tensor, at: NDArray[numpy.int64], norms: NDArray[numpy.float64]) -> torch.Tensor:
    """The chosen rows over their norms, which are those of all rows."""
    return (take(x, at).double() / torch.from_numpy(norms[at, None]).to(x.device)).float()


def column_sums(x: torch.Tensor) -> NDArray[numpy.float64]:
    """(D,) sums of the columns in float64."""
    if x.device.type == "cpu":
        return x.numpy().sum(axis=0, dtype=numpy.float64)
    return host(x.sum(0, dtype=torch.float64))


def column_squares(x: torch.Tensor) -> NDArray[numpy.float64]:
    """(D,) sums of the squares of the columns in float64."""
    if x.device.type == "cpu":
        return numpy.square(x.numpy(), dtype=numpy.float64).sum(axis=0)
    return host(x.double().square().sum(0))


def sum_of_squares(x: torch.Tensor) -> float:
    """Of all its numbers, in float64."""
    if x.device.type == "cpu":
        return float(numpy.square(x.numpy(), dtype=numpy.float64).sum())
    return float(x.double().square().sum())


def take(x: torch.Tensor, rows: NDArray[numpy.int64]) -> torch.Tensor:
    """Some rows."""
    at = torch.from_numpy(rows)
    return torch.from_numpy(x.numpy()[rows]) if x.device.type == "cpu" else x[at.to(x.device)]


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two small tensors are equal, wherever they lie."""
    return torch.equal(a.cpu(), b.cpu())
