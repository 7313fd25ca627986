"""Activations of numbers: from a bridge, from files, and what ships."""

from pathlib import Path

import numpy
import pytest
import torch
from safetensors.torch import save_file

import interpkern
from interpkern.errors import DTypeError, ShapeError
from interpkern.probing.collect import number_activations, number_prompts, single_token_numbers
from interpkern.probing.number_sets import NumberActivations
from tests.probing.fake_bridge import BOS, LAYERS, FakeNumberBridge

NUMBERS = [7, 12, 120, 33, 5]


def small(layers: tuple[int, ...] = (0, 4)) -> NumberActivations:
    generator = torch.Generator().manual_seed(1)
    rows = {layer: torch.randn(9, 7, generator=generator) for layer in layers}
    return NumberActivations(
        range(3, 12), rows, torch.arange(9) + 1, torch.ones(9, dtype=torch.int64), {"model": "toy"}
    )


def test_prompts_find_the_number_behind_what_the_model_puts_in_front():
    found = {prompt.number: prompt for prompt in number_prompts(FakeNumberBridge(), NUMBERS, "n = ")}
    assert found[7].tokens == (BOS, *map(ord, "n = 7"))
    assert {number: (one.position, one.token_count) for number, one in found.items()} == {
        7: (5, 1),
        12: (5, 1),
        120: (6, 2),
        33: (6, 2),
        5: (5, 1),
    }
    assert single_token_numbers(FakeNumberBridge(), range(1, 100), prefix="") == [*range(1, 10), 12]


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_rows_are_those_of_the_last_token_of_each_number(batch_size: int):
    bridge = FakeNumberBridge()
    found = number_activations(bridge, NUMBERS, prefix="a:", batch_size=batch_size, progress=False)
    assert found.layers == (0, 1, 2, 3)
    assert found.numbers.tolist() == NUMBERS
    for row, number in enumerate(NUMBERS):
        tokens = bridge.to_tokens(f"a:{number}")
        for layer in found.layers:
            expected = bridge.residual(tokens, layer)[0, -1]
            assert torch.equal(found[layer][row], expected.float())
        assert int(found.positions[row]) == tokens.shape[1] - 1
    assert found.token_counts.tolist() == [1, 1, 2, 2, 1]
    assert found.digit_split is True
    assert bridge.training, "left as it was"
    assert found.origin["model"] == "fake"
    assert {"prefix": "a:", "hook": "resid_pre", "layers_of_model": LAYERS}.items() <= found.origin.items()


def test_only_the_layers_that_are_asked_for_run():
    bridge = FakeNumberBridge()
    found = number_activations(bridge, NUMBERS, layers=(1, 0), progress=False)
    assert found.layers == (0, 1)
    assert {stop for _, stop in bridge.calls} == {2}
    assert len(bridge.calls) == 2, "a pass for each length"


def test_numbers_of_several_tokens_can_be_left_out():
    found = number_activations(FakeNumberBridge(), NUMBERS, single_token=True, progress=False)
    assert found.numbers.tolist() == [7, 12, 5]
    assert found.digit_split is False


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"numbers": [1, 1]}, "numbers: expected different"),
        ({"numbers": [1.5]}, "numbers: expected an integer"),
        ({"numbers": []}, "numbers"),
        ({"layers": (4,)}, "layer"),
        ({"hook": "resid_mid"}, "hook: this model has no"),
        ({"hook": "resid"}, "hook: expected one of"),
        ({"batch_size": 0}, "batch_size"),
        ({"numbers": [33], "single_token": True}, "single_token"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: dict, words: str):
    with pytest.raises((ValueError, TypeError), match=words):
        number_activations(FakeNumberBridge(), **{"numbers": NUMBERS, "progress": False} | arguments)


def test_a_prefix_does_not_run_into_the_number():
    words, spaced = (number_activations(FakeNumberBridge(), [7, 12], prefix=text) for text in ("n is", "n is "))
    assert torch.equal(words[1], spaced[1])
    assert words.origin["prefix"] == "n is "
    assert number_activations(FakeNumberBridge(), [7], prefix="n=").origin["prefix"] == "n="
    with pytest.raises(ValueError, match="prefix: 'n1' ends in a digit"):
        number_activations(FakeNumberBridge(), [7], prefix="n1")
    with pytest.raises(DTypeError, match="prefix: expected a text"):
        number_activations(FakeNumberBridge(), [7], prefix=None)


def test_a_model_without_fast_tokenizer_is_refused():
    bridge = FakeNumberBridge()
    bridge.tokenizer = None
    with pytest.raises(ValueError, match="bridge: this model has no fast tokenizer"):
        number_activations(bridge, NUMBERS)
    with pytest.raises(DTypeError, match="bridge: expected a transformer_lens"):
        number_activations(torch.nn.Linear(1, 1), NUMBERS)


def test_files_hold_everything_and_are_read_layer_by_layer(tmp_path: Path):
    before = small()
    path = before.save(tmp_path / "numbers.safetensors")
    after = NumberActivations.load(path)
    assert repr(after) == "NumberActivations(9 numbers 3 to 11 of toy, layers 0, 4)"
    for layer in before.layers:
        assert torch.equal(after[layer], before[layer])
    for name in ("numbers", "positions", "token_counts"):
        assert torch.equal(getattr(after, name), getattr(before, name))
    assert after.origin == before.origin
    assert after.at((4,)).layers == (4,)
    assert path.read_bytes() == after.save(tmp_path / "again.safetensors").read_bytes()
    assert NumberActivations.load(before.save(path, dtype=torch.float16))[4].dtype == torch.float16


def test_arrays_of_others_are_read(tmp_path: Path):
    rows, numbers = torch.randn(4, 3), torch.arange(2, 6)
    save_file({"activations": rows, "numbers": numbers}, tmp_path / "a.safetensors")
    numpy.savez(tmp_path / "a.npz", activations=rows.numpy(), numbers=numbers.numpy().astype("int32"))
    numpy.savez(tmp_path / "b.npz", **{"layer.3": rows.numpy(), "numbers": numbers.numpy()})
    numpy.save(tmp_path / "a.npy", rows.numpy())
    numpy.save(tmp_path / "b.npy", torch.stack([rows, rows + 1]).numpy())
    for name, layer in (("a.safetensors", 0), ("a.npz", 0), ("b.npz", 3)):
        found = NumberActivations.load(tmp_path / name)
        assert torch.equal(found[layer], rows)
        assert torch.equal(found.numbers, numbers)
        assert found.digit_split is None
    assert torch.equal(NumberActivations.load(tmp_path / "a.npy", numbers=[2, 3, 4, 5])[0], rows)
    assert torch.equal(NumberActivations.load(tmp_path / "b.npy", numbers=numbers)[1], rows + 1)


def test_files_that_do_not_fit_are_refused_by_name(tmp_path: Path):
    numpy.save(tmp_path / "a.npy", numpy.zeros((4, 3), "float32"))
    numpy.save(tmp_path / "objects.npy", numpy.array([{}]))
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    (tmp_path / "text.txt").write_text("1")
    save_file({"activations": torch.zeros(4, 3), "numbers": torch.arange(1, 4)}, tmp_path / "short.safetensors")
    save_file({"weights": torch.zeros(4, 3), "numbers": torch.arange(1, 5)}, tmp_path / "other.safetensors")
    for name, words in (
        ("a.npy", "numbers: .* holds none"),
        ("objects.npy", "path: .* cannot be read"),
        ("broken.safetensors", "path: .* cannot be read"),
        ("text.txt", "path: expected a file"),
        ("missing.npy", "not there"),
        ("short.safetensors", r"activations is \(4, 3\), expected \(3, D\)"),
        ("other.safetensors", "holds numbers, weights"),
    ):
        with pytest.raises(ValueError, match=words):
            NumberActivations.load(tmp_path / name)
    with pytest.raises(ShapeError, match=r"activations\[0\]"):
        NumberActivations.load(tmp_path / "a.npy", numbers=range(5))


def test_arrays_that_do_not_fit_are_refused_by_name():
    with pytest.raises(ShapeError, match=r"activations\[2\]"):
        NumberActivations([1, 2, 3], {2: torch.zeros(4, 3)})
    with pytest.raises(ShapeError, match="positions"):
        NumberActivations([1, 2, 3], {2: torch.zeros(3, 3)}, positions=[1, 2])
    with pytest.raises(DTypeError, match=r"activations: expected \{layer"):
        NumberActivations([1, 2, 3], torch.zeros(3, 3))
    with pytest.raises(ValueError, match="layer: expected one of 0, 4, got 1"):
        small()[1]
    with pytest.raises(ValueError, match=r"layer\.0 has numbers that are too large for float16"):
        NumberActivations([1, 2], {0: torch.full((2, 2), 1e6)}).save("never", dtype=torch.float16)


@pytest.mark.parametrize(("name", "count", "width", "layers"), [("minilm", 352, 384, 7), ("smollm2", 360, 576, 8)])
def test_shipped_sets(name: str, count: int, width: int, layers: int):
    found = interpkern.data.numbers(name)
    assert (len(found), len(found.layers), found.name) == (count, layers, name)
    assert all(found[layer].shape == (count, width) and found[layer].dtype == torch.float16 for layer in found.layers)
    assert found.digit_split is (name == "smollm2")
    assert int(found.positions.min()) >= 1
    with pytest.raises(ValueError, match="name"):
        interpkern.data.numbers("nope")
