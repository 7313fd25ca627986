"""How many bits of its table a model stores, and how sure a fraction or a mean is."""

import math

import torch
from scipy import stats

from interpkern.validation import REAL_DTYPES, Dimensions, integer, number, plain_tensor, zeros_and_ones

TABLE_DTYPES = (*REAL_DTYPES, torch.bool)
LOSS_DTYPES = (torch.float64, torch.float32)


def entropy(p: float | torch.Tensor) -> torch.Tensor:
    """Give the entropy in bits of a boolean that is 1 with probability p; 0 at p = 0 and p = 1.

    Shapes:
        p any, in [0, 1].

    Returns:
        float64 of p's shape, bits.

    Raises:
        ValueError or TypeError that names p.

    Example:
        >>> entropy(0.5)
        tensor(1., dtype=torch.float64)
    """
    if not isinstance(p, torch.Tensor):
        p = torch.tensor(number("p", p, 0.0, 1.0), dtype=torch.float64)
    p = plain_tensor("p", p).to(torch.float64)
    if not bool(((p >= 0) & (p <= 1)).all()):
        raise ValueError("p: expected probabilities in [0, 1]")
    return -(torch.special.xlogy(p, p) + torch.special.xlogy(1 - p, 1 - p)) / math.log(2)


def density(tables: torch.Tensor) -> torch.Tensor:
    """Give the share of ones in each table: tables (B, R, C) of 0 and 1 -> (B,) float64.

    Example:
        >>> density(torch.tensor([[[1, 0], [0, 0]]]))
        tensor([0.2500], dtype=torch.float64)
    """
    checked = Dimensions().tensor("tables", tables, "B R C", TABLE_DTYPES)
    return zeros_and_ones("tables", checked).to("cpu", torch.float64).mean(dim=(1, 2))


def bits_ce(loss: torch.Tensor, tables: torch.Tensor) -> torch.Tensor:
    """Give the bits that each model saves in sending its table: facts * (H(p) - CE / ln 2), p of its own table.

    The first term is the length of a table coded by its share of ones alone, the second its length when each fact is
    coded with the model's probability. Below 0 the model is worse than that share; nothing is clipped, and a model
    that diverged (loss NaN) has NaN bits.

    Shapes:
        loss (B,) float32 or float64, nats per fact; tables (B, R, C) of 0 and 1.

    Returns:
        (B,) float64, bits.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Source:
        spec of memorisation, "Bits".

    Example:
        >>> bits_ce(torch.tensor([0.0]), torch.tensor([[[1, 0], [0, 1]]]))
        tensor([4.], dtype=torch.float64)
    """
    prior = entropy(density(tables))
    dimensions = Dimensions({"B": len(prior)}, {"B": "tables"})
    nats = dimensions.tensor("loss", loss, "B", LOSS_DTYPES, finite=False).to("cpu", torch.float64)
    return _facts(tables) * (prior - nats / math.log(2))


def bits_accuracy(accuracy: torch.Tensor, tables: torch.Tensor) -> torch.Tensor:
    """Give the bits that each model's right answers are worth: facts * (H(p) - H2(error)), p of its own table.

    H(p) - H2(e) is the rate-distortion function of a Bernoulli(p) source under Hamming distortion: no code with error
    e <= min(p, 1 - p) takes fewer bits a fact. At p = 1/2 that holds for every e <= 1/2. For other p and a greater e,
    where the function is 0 because a constant answer does as well, this stays unclipped: it is 0 at e = min(p, 1 - p),
    negative between there and max(p, 1 - p), and beyond that counts a table learnt upside down as stored.

    Shapes:
        accuracy (B,) float32 or float64, the share of facts right; tables (B, R, C) of 0 and 1.

    Returns:
        (B,) float64, bits.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Source:
        Cover and Thomas 2006, "Elements of Information Theory", theorem 10.3.1.

    Example:
        >>> bits_accuracy(torch.tensor([0.5]), torch.tensor([[[1, 0], [0, 1]]]))
        tensor([0.], dtype=torch.float64)
    """
    prior = entropy(density(tables))
    dimensions = Dimensions({"B": len(prior)}, {"B": "tables"})
    share = dimensions.tensor("accuracy", accuracy, "B", LOSS_DTYPES).to("cpu", torch.float64)
    if bool(((share < 0) | (share > 1)).any()):
        raise ValueError("accuracy: expected shares of facts right, in [0, 1]")
    return _facts(tables) * (prior - entropy(1 - share))


def _facts(tables: torch.Tensor) -> int:
    return tables.shape[1] * tables.shape[2]


def wilson_interval(successes: int, trials: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Give Wilson's score interval for a probability, from the number of successes among independent trials.

    Returns:
        (low, high), shares in [0, 1].

    Raises:
        ValueError or TypeError that names the argument.

    Source:
        Wilson 1927, "Probable inference, the law of succession, and statistical inference".

    Example:
        >>> wilson_interval(0, 10)
        (0.0, 0.2775...)
    """
    trials = integer("trials", trials, 1)
    interval = stats.binomtest(integer("successes", successes, 0, trials), trials).proportion_ci(
        confidence_level=_confidence(confidence), method="wilson"
    )
    return float(interval.low), float(interval.high)


def mean_interval(values: torch.Tensor, *, confidence: float = 0.95) -> tuple[float, float, float]:
    """Give the mean over seeds and Student's t interval for it; one value alone has an interval of NaN.

    Shapes:
        values (B,) of any real dtype; a NaN among them gives NaN.

    Returns:
        (mean, low, high) in the unit of the values.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Example:
        >>> mean_interval(torch.tensor([1.0, 3.0]))
        (2.0, -10.7..., 14.7...)
    """
    confidence = _confidence(confidence)
    checked = Dimensions().tensor("values", values, "B", REAL_DTYPES, finite=False).to("cpu", torch.float64)
    mean = float(checked.mean())
    if len(checked) == 1:
        return mean, math.nan, math.nan
    error = float(checked.std()) / math.sqrt(len(checked))
    reach = float(stats.t.ppf((1 + confidence) / 2, len(checked) - 1)) * error
    return mean, mean - reach, mean + reach


def _confidence(confidence: float) -> float:
    confidence = number("confidence", confidence, 0.0, below=1.0)
    if confidence == 0.0:
        raise ValueError("confidence: expected a number in (0, 1), got 0")
    return confidence
