"""A cross-coder as a directory: the joint dictionary as any other in a folder of its own, and the sites beside it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from interpkern.files import as_path, claim_directory, write_atomically
from interpkern.itda import storage
from interpkern.itda.crosscoder_joint import FACTS
from interpkern.itda.crosscoder_sites import Site, Space, check_sites, entries, named
from interpkern.itda.dictionary import ITDA
from interpkern.itda.packing import pack, unpack
from interpkern.validation import boolean, integer

KIND = "interpkern.itda.crosscoder"
SCHEMA = 1
FILE, JOINT = "crosscoder.safetensors", "joint"

Facts = dict[Site, dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Stored:
    """What a directory holds."""

    joint: ITDA
    space: Space
    centre: bool | str
    """True, False, or "given" where the caller named the vectors."""
    scales_given: bool
    """Whether the caller named the scales."""
    facts: Facts
    """Model, hook and tokenizer of each site, None where unknown."""


def save(stored: Stored, directory: Any) -> Path:
    """Write it, the file of the sites last; the same cross-coder gives the same bytes."""
    space = stored.space
    target = as_path("directory", directory)
    claim_directory(target, (JOINT, FILE), (target / FILE).exists)
    (target / FILE).unlink(missing_ok=True)
    folder = stored.joint.save_pretrained(target / JOINT)
    about = {
        "kind": KIND,
        "schema": SCHEMA,
        "sites": list(space.sites),
        "widths": list(space.widths),
        "centre": stored.centre,
        "scales_given": stored.scales_given,
        "facts": [stored.facts[site] for site in space.sites],
        "joint": _sha256(folder / storage.CONFIG),
    }
    tensors = {
        "mean": space.mean,
        "scales": torch.tensor(space.scales, dtype=torch.float64),
        "weights": torch.tensor(space.weights, dtype=torch.float64),
    }
    write_atomically(target / FILE, pack(tensors, about))
    return target


def load(directory: Any, *, backend: str, threads: int | None) -> Stored:
    """Read what `save` wrote; whatever is wrong, the file is named."""
    source = as_path("directory", directory)
    if not (source / FILE).is_file():
        raise FileNotFoundError(f"directory: {source} holds no finished cross-coder (no {FILE})")
    tensors, about = unpack("directory", source / FILE, KIND, SCHEMA)
    joint = ITDA.from_pretrained(source / JOINT, backend=backend, threads=threads)
    if _sha256(source / JOINT / storage.CONFIG) != about.get("joint"):
        raise ValueError(
            f"directory: {source / JOINT} holds another dictionary than {source / FILE} was saved with; save it again"
        )
    try:
        sites = check_sites(about["sites"])
        widths = [integer("widths", width, 1) for width in about["widths"]]
        facts = {site: {name: one[name] for name in FACTS} for site, one in zip(sites, about["facts"], strict=True)}
        space = _space(tensors, sites, widths, joint.atoms.shape[1])
        centre = about["centre"] if about["centre"] == "given" else boolean("centre", about["centre"])
        scales_given = boolean("scales_given", about["scales_given"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"directory: {source / FILE} lacks or misstates what a cross-coder needs ({error}); save it again"
        ) from None
    return Stored(joint, space, centre, scales_given, facts)


def _space(tensors: dict[str, torch.Tensor], sites: tuple[Site, ...], widths: list[int], joint_width: int) -> Space:
    mean, scales, weights = (tensors[name] for name in ("mean", "scales", "weights"))
    wanted = {"mean": (torch.float32, joint_width), "scales": (torch.float64, len(sites))}
    wanted["weights"] = wanted["scales"]
    for name, (dtype, size) in wanted.items():
        found = tensors[name]
        if found.dtype != dtype or tuple(found.shape) != (size,) or not bool(found.isfinite().all()):
            raise ValueError(f"{name}: expected {size} finite numbers as {dtype}, got {found.dtype} {found.shape}")
    if len(widths) != len(sites) or sum(widths) != joint_width:
        raise ValueError(f"widths: {widths} of {len(sites)} sites don't sum to the width {joint_width} of the atoms")
    means = tuple(part.clone() for part in mean.split(widths))
    return Space(sites, means, tuple(scales.tolist()), tuple(weights.tolist()))


def check_facts(directory: Any, stored: Stored, expected: dict[str, Any]) -> None:
    """Refuse a cross-coder of another model, hook or width than a caller expects of a site."""
    path, sites = Path(directory) / FILE, stored.space.sites
    for name, wanted in expected.items():
        given = {} if wanted is None else wanted
        for site, value in entries(f"{name}s", given, [site for site in sites if site in given]).items():
            found = stored.space.widths[sites.index(site)] if name == "width" else stored.facts[site][name]
            if found != value:
                raise ValueError(f"{named(f'{name}s', site)}: {path} has {found!r}, expected {value!r}")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
