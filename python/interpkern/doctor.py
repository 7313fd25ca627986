"""What is installed, what this machine has, which backends can serve, and whether they are right and fast."""

import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from interpkern import native
from interpkern.backends import Backend
from interpkern.doctor_checks import CHECKS
from interpkern.machine import cores, cpu_features, cpu_model
from interpkern.ops import BACKENDS

PACKAGES = ("interpkern", "torch", "numpy", "triton")


def report() -> dict[str, Any]:
    """Everything that `interpkern doctor` prints, ready for JSON; "ok" is false when a backend is wrong.

    Example:
        >>> report()["operations"]["memorise"]["reference"]["available"]
        True
    """
    operations = {op: {known.name: _examined(op, known) for known in backends} for op, backends in BACKENDS.items()}
    entries = [entry for backends in operations.values() for entry in backends.values()]
    return {
        "ok": all(entry.get("passed", False) for entry in entries if entry["available"]),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "cpu": _cpu(),
        "cuda": _cuda(),
        "operations": operations,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> dict[str, Any]:
    module: Any = native.load("_cpu")
    built = not isinstance(module, str)
    return {
        "model": cpu_model(),
        "features": cpu_features(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "compiled": built,
        "why_not": None if built else module,
        "isas": module.isas() if built else [],
        "isa": native.isa() if built else None,
        "forced_by": native.ISA_VARIABLE if os.environ.get(native.ISA_VARIABLE) else None,
    }


def _cuda() -> dict[str, Any]:
    module: Any = native.load("_cuda")
    built = not isinstance(module, str)
    return {
        "compiled": built,
        "why_not": None if built else module,
        "archs": module.archs() if built else [],
        "devices": module.devices() if built else [],
        "torch_cuda": torch.version.cuda,
        "torch_devices": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
    }


def _examined(op: str, backend: Backend) -> dict[str, Any]:
    """Why a backend is not there, or how right and fast it is; a backend that raises has failed."""
    reason = backend.why_not(None)
    entry = {"available": reason is None, "why_not": reason, "evidence": backend.evidence}
    if reason is not None:
        return entry
    try:
        check = CHECKS[op](backend.name)
    except Exception as error:
        return entry | {"passed": False, "failure": f"{type(error).__name__}: {error}"}
    shown = check.error if math.isfinite(check.error) else None
    return entry | {"passed": check.passed, **asdict(check), "error": shown}


def text(found: dict[str, Any]) -> str:
    """The report for a reader."""
    sections = [
        _section("versions", [(name, found_version or "absent") for name, found_version in found["versions"].items()]),
        _section("cpu", _cpu_lines(found["cpu"])),
        _section("cuda", _cuda_lines(found["cuda"])),
        *(
            _section(op, [(name, _backend_line(entry)) for name, entry in backends.items()])
            for op, backends in found["operations"].items()
        ),
    ]
    verdict = "all available backends are right" if found["ok"] else "a backend is wrong: do not trust its results"
    return "\n\n".join([*sections, verdict])


def _section(title: str, lines: Sequence[tuple[str, str]]) -> str:
    return "\n".join([title, *(f"  {name:<11}{value}" for name, value in lines)])


def _cpu_lines(cpu: dict[str, Any]) -> list[tuple[str, str]]:
    forced = f", forced by {cpu['forced_by']}" if cpu["forced_by"] else ""
    kernels = f"{cpu['isa']} of {', '.join(cpu['isas'])}{forced}" if cpu["compiled"] else cpu["why_not"]
    return [
        ("model", cpu["model"]),
        ("features", " ".join(cpu["features"]) or "not reported"),
        ("kernels", kernels),
        ("threads", f"{cpu['threads']} of {cpu['cores']} cores"),
    ]


def _cuda_lines(cuda: dict[str, Any]) -> list[tuple[str, str]]:
    devices = [
        f"{device['name']}, compute capability {device['compute_capability']}, {device['memory_bytes'] / 2**30:.0f} GiB"
        for device in cuda["devices"]
    ]
    torch_cuda = f"CUDA {cuda['torch_cuda']}" if cuda["torch_cuda"] else "built without CUDA"
    return [
        ("kernels", f"compiled for {', '.join(cuda['archs'])}" if cuda["compiled"] else cuda["why_not"]),
        ("devices", "; ".join(devices) or "none"),
        ("torch", f"{torch_cuda}, sees {', '.join(cuda['torch_devices']) or 'no device'}"),
    ]


def _backend_line(entry: dict[str, Any]) -> str:
    line = _state_line(entry)
    return f"{line}\n{'':<13}{entry['evidence']}" if entry["evidence"] else line


def _state_line(entry: dict[str, Any]) -> str:
    if not entry["available"]:
        return entry["why_not"]
    if "failure" in entry:
        return f"FAILED: {entry['failure']}"
    verdict = "available" if entry["passed"] else "WRONG"
    error = "not a number" if entry["error"] is None else f"{entry['error']:.1e}"
    return f"{verdict}, error {error} (at most {entry['tolerance']:.0e}), {entry['speed']:,.0f} {entry['unit']}"
