"""Closed-form fits of neurons against planted offsets, gradient descent and plain least squares."""

import numpy
import pytest
import torch

from interpkern.errors import DTypeError, ShapeError
from interpkern.probing.neurons import fit_neurons

A, B = torch.arange(400.0) % 20, torch.arange(400.0) // 20
PERIODS = (2, 5, 10)


def test_amplitudes_and_offsets_are_those_planted():
    generator = torch.Generator().manual_seed(0)
    amplitude = torch.rand(2, 3, 7, generator=generator) + 0.1
    offset = torch.rand(2, 3, 7, generator=generator) * torch.tensor(PERIODS)[:, None]
    offset[:, 0] = offset[:, 0].round() % 2  # on integers, period 2 has one column, so its offset is 0 or 1
    slope, intercept = torch.randn(2, 7, generator=generator), torch.randn(7, generator=generator)
    acts = intercept.repeat(400, 1)
    for v, x in enumerate((A, B)):
        acts = acts + slope[v] * x[:, None]
        for t, period in enumerate(PERIODS):
            acts = acts + amplitude[v, t] * torch.cos(2 * torch.pi / period * (x[:, None] - offset[v, t]))
    fits = fit_neurons(acts, {"a": A, "b": B}, PERIODS)
    assert torch.allclose(fits.amplitude, amplitude.double(), atol=1e-5)
    turned = (fits.offset - offset + 1e-4) % torch.tensor(PERIODS)[:, None]
    assert float(turned.max()) < 1e-2
    assert torch.allclose(fits.slope, slope.double(), atol=1e-5)
    assert torch.allclose(fits.intercept, intercept.double(), atol=1e-4)
    assert torch.allclose(fits.r_squared, torch.ones(7, dtype=torch.float64))
    strongest = amplitude.square().sum(0).argmax(0)
    assert fits.top_period.tolist() == [PERIODS[place] for place in strongest]
    table = fits.to_pandas()
    assert table["offset(b) 5"].tolist() == fits.offset[1, 1].tolist()
    assert fits.plot().axes


def test_r_squared_is_that_of_plain_least_squares():
    acts = torch.randn(400, 31, generator=torch.Generator().manual_seed(1)) + 100
    acts[:, 0] = 3.0
    fits = fit_neurons(acts, {"a": A, "b": B, "a+b": A + B}, PERIODS)
    first, second = A.numpy(), B.numpy()
    columns = [numpy.ones(400), first, second]
    for x in (first, second, first + second):
        columns += [numpy.cos(numpy.pi * x)]
        columns += [f(2 * numpy.pi * x / period) for period in (5, 10) for f in (numpy.cos, numpy.sin)]
    design, exact = numpy.stack(columns, 1).astype(float), acts.double().numpy()
    left = exact - design @ numpy.linalg.lstsq(design, exact, rcond=None)[0]
    expected = 1 - (left**2).sum(0) / ((exact - exact.mean(0)) ** 2).sum(0).clip(1e-9)
    assert numpy.allclose(fits.r_squared[1:], expected[1:], atol=1e-9)
    assert bool(fits.r_squared[0].isnan())
    assert fits.dropped == ("sin 2", "sin(b) 2", "a+b", "sin(a+b) 2")
    assert float(fits.slope[2].abs().max()) == 0


def test_the_closed_form_is_what_gradient_descent_looks_for():
    # fault 8: one run of SGD a neuron, on a model that is linear once the cosine is written out
    generator = torch.Generator().manual_seed(3)
    x = torch.arange(100.0)
    target = 2 * torch.cos(2 * torch.pi / 10 * (x - 7.3)) + 0.3 * torch.randn(100, generator=generator)
    target = target + torch.cos(2 * torch.pi / 5 * (x - 1.2))
    exact = fit_neurons(target[:, None], x, (5, 10), linear=False)

    def descend(start: float, steps: int) -> tuple[float, list[float]]:
        weights = torch.tensor([1.0, start, 1.0, start, 0.0], requires_grad=True)
        optimiser = torch.optim.SGD([weights], lr=0.1)
        for _ in range(steps):
            first = weights[0] * torch.cos(2 * torch.pi / 5 * (x - weights[1]))
            loss = (weights[2] * torch.cos(2 * torch.pi / 10 * (x - weights[3])) + first + weights[4] - target).square()
            optimiser.zero_grad()
            loss.mean().backward()
            optimiser.step()
        return 1 - float(loss.detach().sum() / (target - target.mean()).square().sum()), weights.tolist()

    best, weights = descend(1.0, 400)
    assert best == pytest.approx(float(exact.r_squared), abs=1e-4)
    assert abs(weights[2]) == pytest.approx(float(exact.amplitude[0, 1]), abs=1e-2)
    # after as many steps as it has prompts it is not there yet: the closed form has no steps
    assert descend(3.6, 30)[0] < float(exact.r_squared) - 0.05


def test_blocks_of_prompts_and_dtypes_make_no_difference():
    acts = torch.randn(400, 5, generator=torch.Generator().manual_seed(4))
    whole = fit_neurons(acts, A, PERIODS)
    assert torch.allclose(fit_neurons(acts.double().numpy(), A.numpy(), PERIODS).amplitude, whole.amplitude)
    half = fit_neurons(acts.half(), A, PERIODS)
    assert torch.equal(half.amplitude, fit_neurons(acts.half().double(), A, PERIODS).amplitude)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"activations": torch.randn(400)}, ShapeError, "activations: expected"),
        ({"numbers": A[:7]}, ShapeError, r"numbers\['a'\]: expected \(400,\)"),
        ({"numbers": {}}, ValueError, "numbers: expected at least one"),
        ({"numbers": {"b": "text"}}, DTypeError, r"numbers\['b'\]"),
        ({"periods": ()}, ValueError, "periods: expected at least one"),
        (
            {"activations": torch.randn(7, 2), "numbers": range(7)},
            ShapeError,
            "activations: expected more than 7 prompts",
        ),
    ],
)
def test_wrong_input_is_named(change: dict, error: type, message: str):
    given = {"activations": torch.randn(400, 3), "numbers": A, "periods": PERIODS} | change
    with pytest.raises(error, match=message):
        fit_neurons(**given)
