"""ITDA on a GPU that is there: the dictionary of the reference, tensors that stay, files that are uploaded."""

from pathlib import Path

import pytest
import torch

import interpkern as ik
from interpkern.ops.matching_pursuit_backends import BACKENDS
from tests.itda.problems import SETTINGS, activations, labels_for

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.fixture(params=["cuda", "triton"])
def backend(request: pytest.FixtureRequest) -> str:
    reason = next(known.why_not for known in BACKENDS if known.name == request.param)(None)
    if reason is not None:
        pytest.skip(reason)
    return request.param


@pytest.mark.parametrize("method", ["mp", "mp_refit", "omp"])
def test_a_small_dictionary_is_that_of_the_reference(backend: str, method: str) -> None:
    x, labels = activations(600, 33), labels_for(600)
    settings = {**SETTINGS, "method": method}
    here = ik.ITDA(**settings, backend="reference").fit(x, labels)
    there = ik.ITDA(**settings, backend=backend).fit(x.cuda(), labels)
    assert there.atoms.is_cuda
    assert torch.equal(there.labels, here.labels)
    assert torch.allclose(there.atoms.cpu(), here.atoms, atol=1e-6)
    code = there.encode(x[:50].cuda())
    assert torch.equal(code.indices.cpu(), here.encode(x[:50]).indices)
    assert there.decode(code).is_cuda
    assert there.fvu(x.cuda()) == pytest.approx(here.fvu(x), rel=1e-5)


def test_a_dictionary_of_few_rows(backend: str) -> None:
    """What the sanitiser looks at."""
    x = activations(40, 17)
    here, there = (ik.ITDA(k=3, backend=one).fit(rows) for one, rows in (("reference", x), (backend, x.cuda())))
    assert torch.equal(there.labels, here.labels)


@pytest.mark.parametrize("batch", [1, 77, 600])
def test_batches_do_not_show_on_a_gpu(backend: str, batch: int) -> None:
    x = activations(600, 33).cuda()
    settings = {**SETTINGS, "centre": False, "backend": backend}
    whole, pieces = ik.ITDA(**settings).fit(x), ik.ITDA(**settings)
    for rows in x.split(batch):
        pieces.partial_fit(rows)
    assert torch.equal(whole.atoms, pieces.atoms)


def test_a_crosscoder_stays_on_a_gpu(backend: str) -> None:
    x = {"early": activations(300, 12).cuda(), "late": activations(300, 9, world=1).cuda()}
    crosscoder = ik.CrosscoderITDA(list(x), **SETTINGS, backend=backend).fit(x)
    code = crosscoder.encode({"late": x["late"]}, sites=["late"])
    assert all(values.is_cuda for values in crosscoder.decode(code).values())
    assert all(fitted.coefficients.is_cuda for fitted in crosscoder.refit_sites(code, x).values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_files_are_uploaded_to_a_gpu(dtype: torch.dtype, tmp_path: Path) -> None:
    x = activations(5000, 33).to(dtype)
    files = ik.Activations(x).save(tmp_path / "rows", rows_per_shard=777)
    for _ in range(3):
        assert torch.equal(files.to("cuda").tensor().cpu(), x)
    plain = ik.ITDA(**SETTINGS).fit(files[:1000])
    uploaded = ik.ITDA(**SETTINGS).fit(files[:1000].to("cuda"))
    assert uploaded.atoms.is_cuda
    assert torch.equal(uploaded.labels, plain.labels)


def test_gradients_of_decoding_on_a_gpu_have_the_same_bits_every_time() -> None:
    generator = torch.Generator().manual_seed(0)
    indices = torch.randint(-1, 5, (3000, 8), generator=generator).to(torch.int32).sort(1, descending=True).values
    coefficients, atoms = torch.randn(3000, 8, generator=generator), torch.randn(5, 300, generator=generator)

    def gradients(device: str) -> tuple[torch.Tensor, ...]:
        parts = tuple(part.to(device).requires_grad_() for part in (coefficients, atoms))
        code = ik.SparseCode(indices.to(device), parts[0], torch.zeros(3000, device=device))
        return torch.autograd.grad(code.decode(parts[1]).square().sum(), parts)

    first, again, here = gradients("cuda"), gradients("cuda"), gradients("cpu")
    for one, other, expected in zip(first, again, here, strict=True):
        assert torch.equal(one, other)
        assert torch.allclose(one.cpu(), expected, rtol=1e-4, atol=1e-3)
