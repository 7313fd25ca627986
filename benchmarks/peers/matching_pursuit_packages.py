"""Matching pursuit and orthogonal matching pursuit as other packages have them."""

from functools import partial
from typing import Any

import torch

from benchmarks.peers.matching_pursuit import Dictionary, Encode, PursuitPeer, imported, scattered

BATCHED_OMP = "orthogonal-matching-pursuit-gpu"
"""What the package batched-omp (Lubonja et al., arXiv 2407.06434) is called by now."""


def _prepare_saelens(dictionary: Dictionary, k: int, n: int) -> Encode:
    """SAELens picks the largest positive correlation: over the atoms and their opposites, that is signed pursuit."""
    module = imported("sae_lens.saes.matching_pursuit_sae", "sae-lens", "sae")
    atoms = dictionary.atoms
    config = module.MatchingPursuitSAEConfig(
        d_in=atoms.shape[1],
        d_sae=2 * len(atoms),
        dtype="float32",
        device=str(atoms.device),
        residual_threshold=0.0,
        max_iterations=k,
        stop_on_duplicate_support=False,
    )
    sae = module.MatchingPursuitSAE(config)
    sae.W_dec.data = torch.cat((atoms, -atoms))
    return torch.no_grad()(sae.encode)


def _prepare_spams(dictionary: Dictionary, k: int, n: int) -> Encode:
    """SPAMS takes columns in Fortran order, which rows in C order are, and makes its Gram anew at every call.

    What it calls omp is the order-recursive form: it picks the atom after whose fit the least is left, where omp picks
    the largest correlation.
    """
    module = imported("spams", "spams-bin", "bench")
    columns, threads = dictionary.atoms.numpy().T, torch.get_num_threads()
    return lambda x: module.omp(x.numpy().T, columns, L=k, eps=0.0, numThreads=threads)


def _prepare_batched_omp(algorithm: str, dictionary: Dictionary, k: int, n: int) -> Encode:
    module = imported("orthogonal_matching_pursuit_gpu.omp", BATCHED_OMP, "bench")
    atoms, gram = dictionary
    solve = getattr(module, f"omp_{algorithm}")

    @torch.no_grad()
    def encode(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        indices, coefficients, _ = solve(atoms.T, x, n_nonzero_coefs=k, XTX=gram)
        return indices, coefficients[..., 0]

    return encode


def _prepare_sklearn(dictionary: Dictionary, k: int, n: int) -> Encode:
    solve = imported("sklearn.linear_model", "scikit-learn", "bench").orthogonal_mp_gram
    atoms, gram = dictionary.atoms.numpy(), dictionary.gram.numpy()
    return lambda x: solve(gram, atoms @ x.numpy().T, n_nonzero_coefs=k)


def _from_columns(code: Any, M: int) -> torch.Tensor:
    """(n, M) from (M, n) or, of one sample, (M,) columns, sparse or not."""
    columns = code.toarray() if hasattr(code, "toarray") else code
    return torch.from_numpy(columns.reshape(M, -1).T)


saelens = PursuitPeer(
    "SAELens MatchingPursuitSAE over [D; -D]",
    "mp",
    _prepare_saelens,
    lambda code, M: code[:, :M] - code[:, M:],
    (256,),
    package="sae-lens",
)
spams = PursuitPeer(
    "SPAMS omp (order-recursive)",
    "omp",
    _prepare_spams,
    _from_columns,
    (512,),
    package="spams-bin",
    explains_more=True,
    makes_gram=True,
    clocks=("wall", "cpu"),
)
batched_omp = PursuitPeer(
    "batched-omp, v0",
    "omp",
    partial(_prepare_batched_omp, "v0"),
    scattered,
    (32, 64),
    package=BATCHED_OMP,
)
batched_omp_naive = PursuitPeer(
    "batched-omp, naive",
    "omp",
    partial(_prepare_batched_omp, "naive"),
    scattered,
    (64, 128),
    package=BATCHED_OMP,
)
sklearn = PursuitPeer(
    "scikit-learn orthogonal_mp_gram",
    "omp",
    _prepare_sklearn,
    _from_columns,
    (1,),
    package="scikit-learn",
)
