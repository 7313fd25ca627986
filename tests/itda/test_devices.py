"""ITDA and cross-coders by the device of their input alone, on an imagined GPU that mixes with nothing on the CPU."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch

import interpkern as ik
from interpkern.ops.sparse_code import SparseCode
from tests.fake_gpu import FakeGPU, OnGPU
from tests.itda.problems import SETTINGS, activations, built, labels_for, same

READ_BACK = {"Digest.update", "nonnegative_least_squares", "refit"}
"""Who may read more than that back: what hashes the rows; and the reference, which lists the picks of a refit on the
host, and solves non-negative least squares there."""


@pytest.fixture
def gpu() -> Iterator[FakeGPU]:
    with FakeGPU() as mode:
        yield mode


def read_back(gpu: FakeGPU, row: int) -> set[str]:
    """Who moved more than one number a row of 200 rows to the host, or a vector longer than a row."""
    return {name for name, numbers in gpu.moves if numbers > max(200, row)}


def alike(a: ik.ITDA, b: ik.ITDA) -> bool:
    """Whether two dictionaries are the same but for the order in which sums were added up."""
    tables = (one.to("cpu").to_pandas() for one in (a, b))
    pandas.testing.assert_frame_equal(*tables, check_exact=False, rtol=1e-5)
    close = torch.allclose(a.atoms.cpu(), b.atoms.cpu(), rtol=0, atol=1e-7)
    return close and torch.allclose(a.mean.cpu(), b.mean.cpu(), rtol=0, atol=1e-7)


def on_cpu(code: SparseCode) -> SparseCode:
    return SparseCode(code.indices.cpu(), code.coefficients.cpu(), code.residual_norm.cpu())


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "omp"},
        {"method": "mp", "centre": False, "nonnegative": True},
        {"method": "mp_refit", "mode": "fast"},
        {"method": "omp", "order": "canonical", "max_atoms": 11},
    ],
    ids=lambda settings: settings["method"],
)
def test_a_fit_is_the_one_of_the_cpu_and_stays_on_the_gpu(gpu: FakeGPU, settings: dict[str, Any]) -> None:
    x, labels = activations(200, 16), labels_for(200)
    here = built(x, labels, backend="reference", **settings)
    there = built(x.to("cuda"), labels, **settings)
    assert there.atoms.device == there.mean.device == torch.device("cuda", 0)
    assert read_back(gpu, 16) <= READ_BACK
    assert alike(here, there)
    assert here.data["sha256"] == there.data["sha256"]
    code, expected = there.encode(x[:33].to("cuda")), here.encode(x[:33])
    assert isinstance(code.coefficients, OnGPU)
    assert torch.equal(code.indices.cpu(), expected.indices)
    assert torch.allclose(code.coefficients.cpu(), expected.coefficients, atol=1e-6)
    decoded = there.decode(code)
    assert isinstance(decoded, OnGPU)
    assert torch.allclose(decoded.cpu(), here.decode(expected), atol=1e-6)
    assert there.fvu(x.to("cuda")) == pytest.approx(here.fvu(x), rel=1e-9)


def test_encoding_happens_where_its_input_lies(gpu: FakeGPU) -> None:
    x = activations(300, 16)
    here = built(x, backend="reference")
    expected = here.encode(x[:9])
    on_gpu = here.encode(x[:9].to("cuda"))
    assert isinstance(on_gpu.indices, OnGPU)
    assert isinstance(here.decode(on_gpu), OnGPU)
    assert torch.equal(on_gpu.indices.cpu(), expected.indices)
    there = built(x.to("cuda"))
    assert not isinstance(there.decode(there.encode(x[:9])), OnGPU)
    assert torch.equal(there.encode(x[:9]).indices, expected.indices)
    assert there.to("cuda") is there


def test_streams_go_on_where_their_rows_are(gpu: FakeGPU, tmp_path: Path) -> None:
    """partial_fit after files were read, from batches on either device, and a failure that is taken back."""
    x = activations(200, 16)
    settings = {**SETTINGS, "centre": False, "backend": "reference"}
    whole = ik.ITDA(**settings).partial_fit(x)
    stream = ik.ITDA(**settings).partial_fit(x[:70].to("cuda"))
    stream.save_pretrained(tmp_path / "half")
    again = ik.ITDA.from_pretrained(tmp_path / "half", backend="reference", threads=1)
    for one in (stream, again):
        with pytest.raises(ValueError, match="row 70"):
            one.partial_fit(torch.full((1, 16), torch.nan).to("cuda"))
        one.partial_fit([x[70:150].to("cuda"), x[150:].to("cuda")])
        assert isinstance(one.atoms, OnGPU)
        assert alike(one, whole)
    stream.partial_fit(x[:5])
    assert not isinstance(stream.atoms, OnGPU)


def test_skipped_rows_checkpoints_and_searched_thresholds(gpu: FakeGPU, tmp_path: Path) -> None:
    x = activations(150, 16)
    x[7, 3] = torch.inf
    settings = {"skip_nonfinite": True, "backend": "reference"}
    here = built(x, **settings)
    first, second = (
        ik.ITDA(**SETTINGS, **settings).fit(x.to("cuda"), checkpoint=tmp_path, checkpoint_every=100) for _ in range(2)
    )
    assert alike(here, first)
    assert same(first.to("cpu"), second.to("cpu"))
    assert first.report.skipped == 1
    settings = {"threshold": None, "max_atoms": 4, "backend": "reference"}
    sized = built(x[20:70].to("cuda"), **settings)
    assert isinstance(sized.atoms, OnGPU)
    assert alike(sized, built(x[20:70], **settings))


def test_what_works_on_the_cpu_takes_what_lies_on_a_gpu(gpu: FakeGPU) -> None:
    x = activations(300, 16)
    here, there = built(x, backend="reference"), built(x.to("cuda"), backend="reference")
    assert ik.itda.metrics(there, x.to("cuda")).all == ik.itda.metrics(here, x).all
    refined = (ik.itda.refine(itda, rows, rounds=2, rows=200) for itda, rows in ((here, x), (there, x.to("cuda"))))
    assert torch.equal(*(itda.atoms for itda in refined))
    shards = [
        ik.ITDA(**SETTINGS, backend="reference", centre=False).fit(rows) for rows in (x[:150].to("cuda"), x[150:])
    ]
    merged = ik.itda.merge(*shards)
    assert isinstance(merged.atoms, OnGPU)
    assert torch.equal(merged.atoms.cpu(), ik.itda.merge(shards[0].to("cpu"), shards[1]).atoms)


@pytest.mark.parametrize("nonnegative", [False, True])
def test_a_crosscoder_is_the_one_of_the_cpu_and_stays_on_the_gpu(gpu: FakeGPU, nonnegative: bool) -> None:
    x = {"early": activations(150, 12), "late": activations(150, 9, world=1)}
    on_gpu = {site: rows.to("cuda") for site, rows in x.items()}
    settings = {**SETTINGS, "sites": list(x), "nonnegative": nonnegative, "backend": "reference"}
    here, there = ik.CrosscoderITDA(**settings).fit(x), ik.CrosscoderITDA(**settings).fit(on_gpu)
    assert read_back(gpu, 21) <= READ_BACK
    assert isinstance(there.atoms, OnGPU)
    assert torch.equal(there.atoms.cpu(), here.atoms)
    for sites in (None, ["late"]):
        code, expected = there.encode(on_gpu, sites=sites), here.encode(x, sites=sites)
        assert isinstance(code.coefficients, OnGPU)
        assert torch.equal(code.indices.cpu(), expected.indices)
        for site, decoded in there.decode(code).items():
            assert isinstance(decoded, OnGPU)
            assert torch.allclose(decoded.cpu(), here.decode(expected)[site], atol=1e-5)
        assert there.fvu(on_gpu, sites=sites) == pytest.approx(here.fvu(x, sites=sites), rel=1e-6)
    refitted, expected_refit = there.refit_sites(code, on_gpu), here.refit_sites(expected, x)
    for site in x:
        assert isinstance(refitted[site].coefficients, OnGPU)
        assert torch.allclose(refitted[site].coefficients.cpu(), expected_refit[site].coefficients, atol=1e-5)
    assert there.exclusivity().shares.equal(here.exclusivity().shares)
    assert torch.equal(there.encode(x).indices, here.encode(x).indices)


def test_sites_on_two_devices_are_refused(gpu: FakeGPU) -> None:
    x = {"early": activations(30, 12), "late": activations(30, 9).to("cuda")}
    with pytest.raises(ValueError, match=r"activations.*\['late'\]: expected device cpu to match .*'early'"):
        ik.CrosscoderITDA(list(x), **SETTINGS).fit(x)
    crosscoder = ik.CrosscoderITDA(list(x), **SETTINGS).fit({site: rows.cpu() for site, rows in x.items()})
    with pytest.raises(ValueError, match=r"x\['late'\]: expected device cpu"):
        crosscoder.encode(x)


def test_a_code_is_decoded_where_it_lies(gpu: FakeGPU) -> None:
    itda = built(activations(100, 16).to("cuda"))
    code = on_cpu(itda.encode(activations(5, 16).to("cuda")))
    assert not isinstance(itda.decode(code), OnGPU)
    with pytest.raises(ValueError, match="atoms: expected device cpu to match the code, got cuda:0"):
        code.decode(itda.atoms)
