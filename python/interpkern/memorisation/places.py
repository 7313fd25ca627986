"""Places: where the cells of a sweep are trained, one for each device."""

from dataclasses import dataclass

import torch

from interpkern.gpu import devices

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Place:
    """A device, and what trains on it."""

    backend: str = "auto"
    """auto, cpu, cuda, triton or reference."""
    threads: int | None = None
    """CPU threads; by default torch.get_num_threads()."""
    device: torch.device = CPU


def places(device: str | torch.device, backend: str, threads: int | None) -> list[Place]:
    """One place for each device that `device` names, as `gpu.devices` reads it."""
    return [Place(backend, threads, each) for each in devices("device", device)]
