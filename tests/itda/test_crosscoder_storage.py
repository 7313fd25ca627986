"""Files of cross-coders: what is saved comes back bit for bit, and whatever is wrong is refused by the file's name."""

from pathlib import Path
from typing import Any

import pytest
import torch

import interpkern
from interpkern.itda import CrosscoderITDA
from tests.itda.problems import activations, labels_for
from tests.itda.test_crosscoder import built
from tests.itda.test_crosscoder_inputs import pair, same

FILES = ["crosscoder.safetensors", *(f"joint/{name}" for name in ("cfg.json", "sae_weights.safetensors"))]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"method": "mp_refit", "nonnegative": True, "centre": False, "weights": {"a": 2.0, "b": 0.1}},
        {"threshold": None, "max_atoms": 30},
        {"scales": {"a": 1.0, "b": 9.0}, "centre": {"a": torch.ones(31), "b": torch.zeros(7)}, "mode": "fast"},
        {"order": "canonical", "max_atoms": 20, "skip_nonfinite": True},
    ],
)
def test_a_crosscoder_comes_back_bit_for_bit(settings: dict[str, Any], tmp_path: Path) -> None:
    x, labels, new = pair(150), labels_for(150), pair(50, seed=3)
    crosscoder = built(x, labels, **settings)
    again = CrosscoderITDA.from_pretrained(crosscoder.save_pretrained(tmp_path / "one"), threads=1)
    assert same(crosscoder, again)
    assert (again.settings, again.report, again.data) == (crosscoder.settings, crosscoder.report, crosscoder.data)
    for sites in (None, ["b"]):
        mine, theirs = (one.encode(new, sites=sites) for one in (crosscoder, again))
        assert torch.equal(mine.coefficients, theirs.coefficients)
    if crosscoder.settings.threshold is not None:
        assert same(crosscoder.fit(x, labels), again.fit(x, labels))
    again.save_pretrained(tmp_path / "one")
    if crosscoder.settings.order == "given":
        again = CrosscoderITDA.from_pretrained(tmp_path / "one")
        assert same(crosscoder.partial_fit(new), again.partial_fit(new))


def test_numbered_sites_stay_numbers(tmp_path: Path) -> None:
    x = {3: activations(200, 31), "3": activations(200, 7, world=1)}
    crosscoder = built(x)
    again = CrosscoderITDA.from_pretrained(crosscoder.save_pretrained(tmp_path / "one"))
    assert again.sites == (3, "3")
    assert list(again.decode(again.encode(x))) == [3, "3"]


@pytest.mark.parametrize("name", FILES)
def test_damage_is_found_and_the_file_named(name: str, tmp_path: Path) -> None:
    folder = built(pair(200)).save_pretrained(tmp_path / "one")
    path = folder / name
    content = path.read_bytes()
    flips = [content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :] for at in range(0, len(content), 997)]
    for damaged in [b"", content[:-1], content[: len(content) // 2], *flips]:
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"directory: .*{Path(name).name}"):
            CrosscoderITDA.from_pretrained(folder)
    path.unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=Path(name).name):
        CrosscoderITDA.from_pretrained(folder)


def test_folders_of_others_are_refused(tmp_path: Path) -> None:
    one, other = built(pair(200)), built(pair(150, seed=2))
    folder, second = one.save_pretrained(tmp_path / "one"), other.save_pretrained(tmp_path / "two")
    one.save_pretrained(second)
    assert same(CrosscoderITDA.from_pretrained(second), one)
    other.save_pretrained(tmp_path / "three")
    for path in (folder / "joint").iterdir():
        path.write_bytes((tmp_path / "three" / "joint" / path.name).read_bytes())
    with pytest.raises(ValueError, match=r"directory: .*joint holds another dictionary than .*crosscoder.safetensors"):
        CrosscoderITDA.from_pretrained(folder)
    with pytest.raises(FileNotFoundError, match="no finished dictionary"):
        interpkern.ITDA.from_pretrained(second)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match=r"directory: .*other files \(thesis.tex\)"):
        one.save_pretrained(tmp_path / "mine")
    with pytest.raises(FileNotFoundError, match=r"directory: .*no crosscoder.safetensors"):
        CrosscoderITDA.from_pretrained(tmp_path / "mine")
