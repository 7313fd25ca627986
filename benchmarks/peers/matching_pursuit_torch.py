"""Matching pursuit in plain PyTorch: the loop of the ITDA paper's code, and the Gram form, eager and compiled."""

import torch

from benchmarks.peers.matching_pursuit import Dictionary, Encode, PursuitPeer, scattered

Code = tuple[torch.Tensor, torch.Tensor]
"""indices (n, k) int64, coefficients (n, k) float32."""


def _prepare_loop(dictionary: Dictionary, k: int, n: int) -> Encode:
    """As published: the residual is multiplied with all atoms at every step, the code is dense."""
    atoms, rows = dictionary.atoms, torch.arange(n, device=dictionary.atoms.device)

    @torch.no_grad()
    def encode(x: torch.Tensor) -> torch.Tensor:
        residual, code = x.clone(), torch.zeros(n, len(atoms), device=x.device)
        for _ in range(k):
            c = residual @ atoms.T
            pick = c.abs().argmax(1)
            coefficient = c[rows, pick]
            code[rows, pick] += coefficient
            residual -= coefficient[:, None] * atoms[pick]
        return code

    return encode


def _loop_step(residual: torch.Tensor, atoms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One step of the loop, whose argmax the compiler fuses as far as it can."""
    c = residual @ atoms.T
    pick = c.abs().argmax(1)
    coefficient = c.gather(1, pick[:, None])
    return residual - coefficient * atoms[pick], pick, coefficient


def _prepare_compiled_loop(dictionary: Dictionary, k: int, n: int) -> Encode:
    atoms = dictionary.atoms
    step = torch.compile(_loop_step, fullgraph=True, dynamic=False)

    @torch.no_grad()
    def encode(x: torch.Tensor) -> Code:
        residual, made = x, []
        for _ in range(k):
            residual, pick, coefficient = step(residual, atoms)
            made.append((pick, coefficient))
        picks, coefficients = zip(*made, strict=True)
        return torch.stack(picks, 1), torch.cat(coefficients, 1)

    with torch._dynamo.config.patch(recompile_limit=256):
        encode(torch.zeros(n, atoms.shape[1], device=atoms.device))
    return encode


def _prepare_plain_gram(dictionary: Dictionary, k: int, n: int) -> Encode:
    """The Gram form as one would write it down."""
    (atoms, gram), rows = dictionary, torch.arange(n, device=dictionary.atoms.device)

    @torch.no_grad()
    def encode(x: torch.Tensor) -> Code:
        c = x @ atoms.T
        indices = torch.empty(n, k, dtype=torch.int64, device=x.device)
        coefficients = torch.empty(n, k, device=x.device)
        for step in range(k):
            pick = c.abs().argmax(1)
            coefficient = c[rows, pick]
            indices[:, step], coefficients[:, step] = pick, coefficient
            c -= coefficient[:, None] * gram[pick]
        return indices, coefficients

    return encode


def _prepare_gram(dictionary: Dictionary, k: int, n: int) -> Encode:
    """The same without temporaries, and without an update after the last pick."""
    atoms, gram = dictionary
    c, scratch = torch.empty(2, n, len(atoms), device=atoms.device)

    @torch.inference_mode()
    def encode(x: torch.Tensor) -> Code:
        torch.mm(x, atoms.T, out=c)
        picks = torch.empty(k, n, dtype=torch.int64, device=x.device)
        coefficients = torch.empty(k, n, 1, device=x.device)
        for step in range(k):
            if step > 0:
                torch.index_select(gram, 0, picks[step - 1], out=scratch)
                c.addcmul_(scratch, coefficients[step - 1], value=-1)
            torch.argmax(torch.abs(c, out=scratch), 1, out=picks[step])
            torch.gather(c, 1, picks[step][:, None], out=coefficients[step])
        return picks.T, coefficients[..., 0].T

    return encode


def _step(c: torch.Tensor, gram: torch.Tensor, pick: torch.Tensor, coefficient: torch.Tensor) -> Code:
    """Update and next pick, which the compiler makes one pass."""
    c.sub_(coefficient * gram[pick])
    following = c.abs().argmax(1)
    return following, c.gather(1, following[:, None])


def _prepare_compiled_gram(dictionary: Dictionary, k: int, n: int) -> Encode:
    atoms, gram = dictionary
    c = torch.empty(n, len(atoms), device=atoms.device)
    step = torch.compile(_step, fullgraph=True, dynamic=False)

    @torch.no_grad()
    def encode(x: torch.Tensor) -> Code:
        torch.mm(x, atoms.T, out=c)
        pick = c.abs().argmax(1)
        made = [(pick, c.gather(1, pick[:, None]))]
        while len(made) < k:
            made.append(step(c, gram, *made[-1]))
        picks, coefficients = zip(*made, strict=True)
        return torch.stack(picks, 1), torch.cat(coefficients, 1)

    with torch._dynamo.config.patch(recompile_limit=256):
        encode(torch.zeros(n, atoms.shape[1], device=atoms.device))
    return encode


loop = PursuitPeer("the ITDA paper's loop", "mp", _prepare_loop, lambda code, M: code, (256,))
compiled_loop = PursuitPeer(
    "the ITDA paper's loop, torch.compile", "mp", _prepare_compiled_loop, scattered, (64, 128, 256)
)
plain_gram = PursuitPeer("torch Gram form, as one writes it down", "mp", _prepare_plain_gram, scattered, (256,))
gram = PursuitPeer("torch Gram form, tuned", "mp", _prepare_gram, scattered, (32, 64, 128, 256))
compiled_gram = PursuitPeer("torch Gram form, torch.compile", "mp", _prepare_compiled_gram, scattered, (32, 64, 128))
