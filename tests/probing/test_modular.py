"""Discrete logarithms, spectra and Gini against closed forms; what the multiplying transformer has learnt."""

import math
from pathlib import Path

import numpy
import pytest
import torch
from safetensors import safe_open

from interpkern.errors import DTypeError, ShapeError
from interpkern.probing.modular import discrete_log, embedding_spectrum, gini
from interpkern.probing.modular_model import CHECKPOINT, ModularTransformer, load_modmul59, random_pairs

PRIMES = [3, 5, 7, 31, 59, 257]


@pytest.mark.parametrize("count", [1, 2, 7, 31])
def test_gini_of_equal_and_of_single_powers(count: int) -> None:
    assert gini(torch.full((count,), 3.0)) == pytest.approx(0.0, abs=1e-15)
    single = numpy.zeros(count)
    single[count // 2] = 0.25
    assert gini(single) == pytest.approx(1 - 1 / count, abs=1e-15)


def test_gini_is_the_mean_difference_over_twice_the_mean() -> None:
    power = numpy.random.default_rng(0).exponential(size=33)
    differences = numpy.abs(power[:, None] - power).mean()
    assert gini(power) == pytest.approx(differences / (2 * power.mean()), abs=1e-14)
    assert gini(torch.from_numpy(power).float()) == pytest.approx(gini(power), abs=1e-6)
    assert gini(1e9 * power[::-1]) == pytest.approx(gini(power), abs=1e-14)


def test_inputs_of_gini_are_named() -> None:
    with pytest.raises(ValueError, match="power: expected numbers >= 0"):
        gini(torch.tensor([1.0, -1.0]))
    with pytest.raises(ValueError, match="power: expected at least one number above 0"):
        gini(torch.zeros(3))
    with pytest.raises(ShapeError, match="power"):
        gini(torch.ones(2, 2))
    with pytest.raises(DTypeError, match="power"):
        gini([1.0, 2.0])


@pytest.mark.parametrize("p", PRIMES)
def test_discrete_log_inverts_powers(p: int) -> None:
    exponents = discrete_log(p)
    root = int((exponents == 1).nonzero()) + 1
    assert exponents.shape == (p - 1,)
    assert [pow(root, int(e), p) for e in exponents] == list(range(1, p))
    assert sorted(exponents.tolist()) == list(range(p - 1))


def test_products_are_sums_of_discrete_logs() -> None:
    exponents = discrete_log(31, 3)
    for a in range(1, 31):
        for b in range(1, 31):
            assert int(exponents[a * b % 31 - 1]) == int(exponents[a - 1] + exponents[b - 1]) % 30


def test_inputs_of_discrete_log_are_named() -> None:
    with pytest.raises(ValueError, match="p: expected a prime, got 57 = 3 x 19"):
        discrete_log(57)
    with pytest.raises(ValueError, match="p: expected an integer from 3"):
        discrete_log(2)
    with pytest.raises(DTypeError, match="p: expected an integer"):
        discrete_log(7.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="generator: expected a primitive root of 7, say 3, got 2"):
        discrete_log(7, 2)


def roots(p: int) -> list[int]:
    """Primitive roots by brute force."""
    return [g for g in range(1, p) if len({pow(g, e, p) for e in range(p - 1)}) == p - 1]


def by_brute_force(embedding: numpy.ndarray, order: list[int]) -> numpy.ndarray:
    """Shares of the variance at each frequency, by sums of cosines and sines."""
    rows = embedding[order] - embedding[order].mean(0)
    count = len(order)
    shares = []
    for frequency in range(1, count // 2 + 1):
        angle = 2 * math.pi * frequency * numpy.arange(count) / count
        power = ((numpy.cos(angle) @ rows) ** 2 + (numpy.sin(angle) @ rows) ** 2).sum()
        shares.append(power * (1 if 2 * frequency == count else 2) / count)
    return numpy.array(shares) / (rows**2).sum()


@pytest.mark.parametrize("p", [3, 7, 31])
def test_spectrum_equals_sums_of_cosines(p: int) -> None:
    embedding = numpy.random.default_rng(p).normal(size=(p + 2, 5))
    root = int((discrete_log(p) == 1).nonzero()) + 1
    powers = [pow(root, e, p) for e in range(p - 1)]
    for order, rows in (("discrete_log", powers), ("n", list(range(1, p)))):
        found = embedding_spectrum(embedding, p, order).numpy()
        numpy.testing.assert_allclose(found, by_brute_force(embedding, rows), rtol=0, atol=1e-13)
        assert found.sum() == pytest.approx(1.0, abs=1e-13)


def test_a_circle_over_the_discrete_log_is_one_frequency_there_and_all_over_n() -> None:
    p, frequency = 59, 11
    angle = 2 * math.pi * frequency * discrete_log(p).double() / (p - 1)
    embedding = torch.cat([torch.zeros(1, 2), torch.stack([angle.cos(), angle.sin()], 1)])
    found = embedding_spectrum(embedding, p)
    assert float(found[frequency - 1]) == pytest.approx(1.0, abs=1e-12)
    assert gini(found) == pytest.approx(1 - 1 / 29, abs=1e-9)
    assert float(embedding_spectrum(embedding, p, "n").max()) < 0.2


def test_another_generator_shuffles_the_frequencies() -> None:
    embedding = torch.randn(59, 7, generator=torch.Generator().manual_seed(0)) ** 3
    first, *others = roots(59)
    assert len(others) == 27
    found = embedding_spectrum(embedding, 59, generator=first)
    for root in others:
        # logs to this root are those to the first times a unit of 58; the unit -1 changes nothing
        unit = int(discrete_log(59, root)[first - 1])
        moved = [(unit * frequency + 29) % 58 - 29 for frequency in range(1, 30)]
        other = embedding_spectrum(embedding, 59, generator=root)
        torch.testing.assert_close(other, found[[abs(place) - 1 for place in moved]], rtol=0, atol=1e-13)
        assert torch.allclose(other, found) == (first * root % 59 == 1)
        assert gini(other) == pytest.approx(gini(found), abs=1e-12)


def test_inputs_of_the_spectrum_are_named() -> None:
    with pytest.raises(ShapeError, match="embedding: expected at least p = 59 rows"):
        embedding_spectrum(torch.randn(58, 3), 59)
    with pytest.raises(ValueError, match="order: expected one of discrete_log, n"):
        embedding_spectrum(torch.randn(59, 3), 59, "log")
    with pytest.raises(ValueError, match=r"embedding: expected rows 1\.\.p-1 that differ"):
        embedding_spectrum(torch.ones(59, 3), 59)
    with pytest.raises(ValueError, match="embedding: expected finite"):
        embedding_spectrum(torch.full((59, 3), torch.nan), 59)


def test_the_transformer_equals_plain_attention_over_three_tokens() -> None:
    torch.manual_seed(0)
    model = ModularTransformer(7, d_model=12, heads=3, d_hidden=5).double()
    a, b = torch.tensor([0, 3, 6]), torch.tensor([5, 3, 1])
    tokens = torch.stack([model.embedding[a], model.embedding[b], model.equals.expand(3, -1)], 1) + model.positions
    query, key, value = (
        (tokens @ weight).unflatten(-1, (3, 4)).transpose(1, 2) for weight in (model.query, model.key, model.value)
    )
    attended = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    stream = tokens + attended.transpose(1, 2).flatten(2) @ model.output
    stream = stream + model.back(torch.relu(model.hidden(stream)))
    torch.testing.assert_close(model.logits(a, b), (stream @ model.readout.mT)[:, -1], rtol=0, atol=1e-12)


def test_pairs_are_a_share_and_the_same_for_a_seed() -> None:
    pairs = random_pairs(31, 0.5, 3)
    assert int(pairs.sum()) == 31 * 31 // 2
    assert torch.equal(pairs, random_pairs(31, 0.5, 3))
    assert not torch.equal(pairs, random_pairs(31, 0.5, 4))
    assert bool((pairs.sum(0) > 5).all())


def test_the_checkpoint_multiplies_pairs_that_it_was_not_trained_on() -> None:
    model = load_modmul59()
    a, b = torch.cartesian_prod(torch.arange(59), torch.arange(59)).unbind(1)
    right = model.logits(a, b).argmax(1) == a * b % 59
    left_out = model.trained_pairs[a, b] == 0
    assert int(left_out.sum()) == 59 * 59 - 59 * 59 // 2
    assert float(right[left_out].double().mean()) > 0.95
    assert float(right[left_out].double().mean()) == pytest.approx(float(model.about["accuracy"]), abs=1e-3)
    assert model.accuracy() == float(right[left_out].double().mean())
    assert model.accuracy(trained=True) == 1.0
    assert torch.equal(model.trained_pairs, random_pairs(59, 0.5, int(model.about["seed"])))


def test_the_checkpoint_adds_discrete_logs() -> None:
    with safe_open(CHECKPOINT, framework="pt") as file:
        embedding = file.get_tensor(next(name for name in file.keys() if "emb" in name))  # noqa: SIM118
    assert embedding.shape == (59, 128)
    over_logs, over_n = (gini(embedding_spectrum(embedding, 59, order)) for order in ("discrete_log", "n"))
    assert over_logs > 0.45
    assert over_n < 0.2
    assert gini(embedding_spectrum(embedding, 59, generator=roots(59)[-1])) == pytest.approx(over_logs, abs=1e-12)
    shuffled = embedding[torch.randperm(59, generator=torch.Generator().manual_seed(0))]
    assert gini(embedding_spectrum(shuffled, 59)) < 0.2


def test_the_checkpoint_says_where_it_is_from() -> None:
    about = load_modmul59().about
    assert "train_modmul59.py" in about["command"]
    assert {"seed", "accuracy", "gini", "steps"} <= set(about)
    assert "modmul59" in (Path(CHECKPOINT).parent / "LICENSE.txt").read_text()
    assert CHECKPOINT.stat().st_size < 1_000_000
