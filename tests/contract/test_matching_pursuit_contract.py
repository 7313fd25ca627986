"""Ten thousand bad calls of `matching_pursuit`: none crashes, and every message names the argument it is about."""

import random
import re
from typing import Any

import pytest
import torch

import interpkern
from interpkern.ops.matching_pursuit import path_changes
from interpkern.ops.sparse_code import SparseCode
from tests.contract.bad_values import BOOLEAN, CHOICE, INTEGER, NOT_A_NUMBER, TENSOR, Spoil
from tests.ops.pursuits import METHODS, assert_well_formed, problem, pursue

BAD_CALLS = 10_000
N, D, M = 5, 7, 9


def without(spoils: dict[str, Spoil], *names: str) -> dict[str, Spoil]:
    return {name: spoil for name, spoil in spoils.items() if name not in names}


NEVER_NONE: dict[str, Spoil] = {"nothing": lambda rng, value: None}
ZERO: dict[str, Spoil] = {"zero": lambda rng, value: 0}
FLOATS: dict[str, Spoil] = without(TENSOR, "another size") | {
    "integers": lambda rng, tensor: tensor.long(),
    "another width": lambda rng, tensor: tensor[:, : rng.randrange(D)],
    "a wider one": lambda rng, tensor: torch.cat([tensor, tensor], 1),
    "transposed": lambda rng, tensor: tensor.mT,
}
UNIT_ROWS: dict[str, Spoil] = FLOATS | {
    "rows of norm 2": lambda rng, tensor: tensor * 2,
    "one row slightly long": lambda rng, tensor: tensor * (1 + 2e-4 * (torch.arange(len(tensor)) == 1)[:, None]),
    "a row of zeros": lambda rng, tensor: tensor * (torch.arange(len(tensor)) != 1)[:, None],
    "rows of norm 0.9 in half precision": lambda rng, tensor: (tensor * 0.9).half(),
}
NO_ROWS: dict[str, Spoil] = {"no rows": lambda rng, tensor: tensor[:0]}
GRAM: dict[str, Spoil] = without(TENSOR, "nothing", "another size") | {
    "too small": lambda rng, gram: gram[:-1, :-1],
    "oblong": lambda rng, gram: gram[: rng.randrange(M)],
    "integers": lambda rng, gram: gram.long(),
    "another dictionary": lambda rng, gram: interpkern.Gram(torch.eye(D)),
    "another width": lambda rng, gram: interpkern.Gram(torch.eye(M)),
    "the atoms": lambda rng, gram: problem(1, D, M)[1],
    "twice the products": lambda rng, gram: gram * 2,
}
KINDS: dict[str, dict[str, Spoil]] = {
    "x": FLOATS,
    "atoms": UNIT_ROWS | NO_ROWS,
    "k": INTEGER | NEVER_NONE | ZERO | {"a million and more": lambda rng, value: (1 << 20) + 1},
    "method": CHOICE,
    "nonnegative": BOOLEAN,
    "tol": without(NOT_A_NUMBER, "nothing") | {"one": lambda rng, value: 1.0, "two": lambda rng, value: 2},
    "gram": GRAM,
    "precision": CHOICE,
    "backend": CHOICE,
    "threads": INTEGER | ZERO,
    "progress": {"a number": lambda rng, value: 3, "a string": lambda rng, value: "bar"},
}


def good_call() -> dict[str, Any]:
    x, atoms = problem(N, D, M)
    plain = {"method": "omp", "nonnegative": False, "tol": 0.1, "precision": "exact", "backend": "auto"}
    return {"x": x, "atoms": atoms, "k": 3, "gram": atoms @ atoms.T, "threads": 1, "progress": False, **plain}


def refusal(name: str, call: Any) -> str | None:
    """What is wrong with how a bad call is refused, if anything."""
    try:
        call()
    except (ValueError, TypeError) as error:
        return None if re.search(rf"\b{name}\b", str(error)) else f": {error}"
    except Exception as error:
        return f": {error!r}"
    return ": accepted"


def test_bad_calls_are_refused_by_name() -> None:
    rng = random.Random(0)
    good = good_call()
    interpkern.matching_pursuit(**good)
    wrong = set()
    for _ in range(BAD_CALLS):
        name = rng.choice(list(KINDS))
        how, spoil = rng.choice(list(KINDS[name].items()))
        arguments = {**good, name: spoil(rng, good[name])}
        found = refusal(name, lambda arguments=arguments: interpkern.matching_pursuit(**arguments))
        if found:
            wrong.add(f"{name} as {how}{found}")
    assert not wrong, "\n".join(sorted(wrong))


@pytest.mark.parametrize("how", sorted(UNIT_ROWS))
def test_bad_atoms_of_a_gram_are_refused_by_name(how: str) -> None:
    atoms = problem(1, D, M)[1]
    spoilt = UNIT_ROWS[how](random.Random(1), atoms)
    gram = interpkern.Gram(atoms)
    assert not refusal("rows", lambda: gram.append(spoilt))
    assert len(gram) == M
    assert torch.equal(gram.atoms, atoms)
    if how not in ("another width", "a wider one", "transposed"):
        assert not refusal("atoms", lambda: interpkern.Gram(spoilt))


@pytest.mark.parametrize("capacity", [-1, M - 1, 2.5, True, "many", 1 << 63])
def test_bad_capacity_is_refused(capacity: Any) -> None:
    assert not refusal("capacity", lambda: interpkern.Gram(problem(1, D, M)[1], capacity=capacity))


CODES = {
    "nothing": lambda code: None,
    "its indices": lambda code: code.indices,
    "too few samples": lambda code: SparseCode(code.indices[1:], code.coefficients[1:], code.residual_norm[1:]),
    "atoms that were not known": lambda code: SparseCode(code.indices + 6, code.coefficients, code.residual_norm),
}


def test_bad_path_changes_are_refused_by_name() -> None:
    x, atoms = problem(N, D, M)
    code = pursue(x, atoms[:6], 3)
    assert not path_changes(x, atoms[:6], code, 6).any()
    for spoil in CODES.values():
        assert not refusal("code", lambda spoil=spoil: path_changes(x, atoms, spoil(code), 6))
    for known in (-1, M + 1, None, 2.5):
        assert not refusal("known", lambda known=known: path_changes(x, atoms, code, known))
    for name in ("method", "nonnegative", "tol", "backend", "threads"):
        for how, spoil in KINDS[name].items():
            changed = {name: spoil(random.Random(0), None)}
            assert not refusal(name, lambda changed=changed: path_changes(x, atoms, code, 6, **changed)), how
    for name, values in (("x", FLOATS), ("atoms", UNIT_ROWS)):
        for how, spoil in values.items():
            changed = {"x": x, "atoms": atoms} | {name: spoil(random.Random(0), x if name == "x" else atoms)}
            assert not refusal(name, lambda changed=changed: path_changes(**changed, code=code, known=6)), how


def test_bad_codes_are_refused() -> None:
    code = pursue(*problem(N, D, M), 3)
    parts = (code.indices, code.coefficients, code.residual_norm)
    for position, spoil in [
        (0, lambda part: part.tolist()),
        (0, lambda part: part.long()),
        (0, lambda part: part[0]),
        (0, lambda part: part[:, :2]),
        (1, lambda part: part[1:]),
        (1, lambda part: None),
        (2, lambda part: part[:, None]),
        (2, lambda part: part[1:]),
    ]:
        with pytest.raises((ValueError, TypeError), match=r"SparseCode|indices"):
            SparseCode(*(spoil(part) if place == position else part for place, part in enumerate(parts)))
    for atoms in (None, torch.eye(3).long(), torch.zeros(3), torch.zeros(1, 2)):
        assert not refusal("atoms", lambda atoms=atoms: code.decode(atoms))
    for size in (0, 1, 2.5, None):
        assert not refusal("M", lambda size=size: code.to_dense(size))


def test_good_calls_of_random_shapes_and_knobs() -> None:
    """The sanitizers' food: shapes and knobs at random, every output finite, well formed and of the right shape."""
    rng = random.Random(2)
    sizes = [1, 2, 3, 5, 8, 17, 31, 33, 70]
    for _ in range(150):
        samples, width, atoms = rng.choice([0, *sizes, 300]), rng.choice(sizes), rng.choice([*sizes, 257])
        k, method = rng.choice([1, 2, 5, 20, 90]), rng.choice(METHODS)
        x, dictionary = problem(samples, width, atoms, seed=rng.randrange(1000))
        x = (x * 10.0 ** rng.randint(-12, 12)).to(rng.choice([torch.float32, torch.bfloat16]))
        gram = interpkern.Gram(dictionary[:1], capacity=rng.choice([None, 1, 7, 400]))
        gram.append(dictionary[1:])
        settings = {
            "method": method,
            "nonnegative": rng.random() < 0.5,
            "tol": rng.choice([None, 0.0, 0.3, 0.99]),
            "precision": rng.choice(["exact", "fast"]),
            "threads": rng.choice([1, 2, 5]),
        }
        code = pursue(x, dictionary, k, gram=rng.choice([None, gram, dictionary @ dictionary.T]), **settings)
        assert_well_formed(code, samples, k, atoms, method)
        del settings["precision"]
        known = rng.randint(1, atoms)
        early = pursue(x, dictionary[:known], k, **settings)
        assert path_changes(x, dictionary, early, known, **settings).shape == (samples,)


def test_messages_say_what_to_do() -> None:
    x, atoms = problem(N, D, M)
    with pytest.raises(interpkern.ShapeError, match=r"atoms: expected \(M, D\) with D = 7 to match x.*mean atoms.mT"):
        pursue(x, atoms.mT, 3)
    with pytest.raises(interpkern.ShapeError, match=r"x: expected \(N, D\), got \(7,\)"):
        pursue(x[0], atoms, 3)
    with pytest.raises(ValueError, match=r"atoms: .*got norm 3 in row 4; normalise them, say atoms / atoms.norm"):
        pursue(x, atoms * (1 + 2.0 * (torch.arange(M) == 4)[:, None]), 3)
    with pytest.raises(ValueError, match=r"method: .*Did you mean 'omp'"):
        pursue(x, atoms, 3, method="opm")
    with pytest.raises(ValueError, match="detach"):
        pursue(x.requires_grad_(), atoms, 3)
    with pytest.raises(ValueError, match=r"backend: .*cpu, reference, got 'gpu'"):
        pursue(x.detach(), atoms, 3, backend="gpu")
    with pytest.raises(interpkern.BackendUnavailable, match=r"cuda: .*; triton: .*; cpu: .*; reference: available"):
        pursue(x.detach(), atoms, 3, backend="cuda")
    with pytest.raises(interpkern.BackendUnavailable, match="float64"):
        pursue(x.detach().double(), atoms, 3, backend="cpu")
    with pytest.raises(ValueError, match="gram"):
        pursue(x.detach(), atoms, 3, gram=interpkern.Gram(atoms[1:]))
