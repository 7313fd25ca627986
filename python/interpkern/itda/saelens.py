"""Dictionaries in SAELens: the architecture "itda", registered on import, and the export to its MatchingPursuitSAE.

Needs the extra `sae`. Signed matching pursuit over atoms D is positive matching pursuit over [D; -D].
"""

from dataclasses import dataclass
from typing import Any

import torch

from interpkern.errors import DTypeError
from interpkern.extras import need
from interpkern.itda.dictionary import ITDA
from interpkern.itda.gradients import with_gradient
from interpkern.itda.saelens_config import ARCHITECTURE, saelens_cfg
from interpkern.ops.gram import Gram
from interpkern.ops.matching_pursuit import MAX_PICKS, matching_pursuit
from interpkern.reference.matching_pursuit import METHODS
from interpkern.validation import boolean, choice, integer

sae_lens: Any = need("sae_lens", "sae", "interpkern.itda.saelens")
registry: Any = need("sae_lens.registry", "sae", "interpkern.itda.saelens")


@dataclass
class ITDASAEConfig(sae_lens.SAEConfig):
    """The configuration of ITDASAE: that of every SAE, and how it encodes."""

    k: int = 32
    """Picks of a token at most."""
    method: str = "omp"
    """mp, mp_refit or omp."""
    nonnegative: bool = False

    @classmethod
    def architecture(cls) -> str:
        """The name in cfg.json."""
        return ARCHITECTURE

    def __post_init__(self) -> None:
        integer("k", self.k, 1, MAX_PICKS)
        choice("method", self.method, METHODS)
        boolean("nonnegative", self.nonnegative)
        super().__post_init__()


class ITDASAE(sae_lens.SAE[ITDASAEConfig]):
    """A dictionary of activations as an SAE of SAELens: dense signed codes, W_dec the atoms, b_dec the mean.

    Given its picks, a code is linear in the input, and gradients pass through it that way. The atoms are activations
    and not trained: W_dec and b_dec require no gradient.

    Example:
        >>> path = ITDA(k=4).fit(torch.randn(200, 8)).save_pretrained("dictionary")  # doctest: +SKIP
        >>> sae = sae_lens.SAE.load_from_disk(path)  # doctest: +SKIP
        >>> sae.decode(sae.encode(torch.randn(2, 5, 8))).shape  # doctest: +SKIP
        torch.Size([2, 5, 8])
    """

    @property
    def W_enc(self) -> torch.Tensor:
        """(D, M) the atoms as columns."""
        transposed: torch.Tensor = self.W_dec.T
        return transposed

    def initialize_weights(self) -> None:
        """Room for the atoms, unit rows until they are loaded."""
        like = {"dtype": self.dtype, "device": self.device}
        rows = torch.eye(1, self.cfg.d_in, **like).repeat(self.cfg.d_sae, 1)
        self.W_dec = torch.nn.Parameter(rows, requires_grad=False)
        self.b_dec = torch.nn.Parameter(torch.zeros(self.cfg.d_in, **like), requires_grad=False)
        self._gram: tuple[tuple[Any, ...], Gram] | None = None

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """(..., D) activations to (..., M) codes, picked and computed in float32."""
        inputs = self.process_sae_in(x)
        rows = inputs.reshape(-1, inputs.shape[-1]).float()
        gram = self._prepared()
        code = matching_pursuit(
            rows.detach(),
            gram.atoms,
            self.cfg.k,
            method=self.cfg.method,
            nonnegative=self.cfg.nonnegative,
            gram=gram,
            progress=False,
        )
        if rows.requires_grad and torch.is_grad_enabled():
            code = with_gradient(code, rows, gram.atoms, self.cfg.method)
        codes = code.to_dense(self.cfg.d_sae).to(self.dtype).reshape(*inputs.shape[:-1], self.cfg.d_sae)
        posted: torch.Tensor = self.hook_sae_acts_post(codes)
        return posted

    def decode(self, feature_acts: torch.Tensor) -> torch.Tensor:
        """(..., M) codes to (..., D) activations."""
        rebuilt = feature_acts @ self.W_dec
        if self.cfg.apply_b_dec_to_input:
            rebuilt = rebuilt + self.b_dec
        rebuilt = self.run_time_activation_norm_fn_out(self.hook_sae_recons(rebuilt))
        reshaped: torch.Tensor = self.reshape_fn_out(rebuilt, self.d_head)
        return reshaped

    def process_state_dict_for_loading(self, state_dict: dict[str, Any]) -> None:
        """Leave out what a saved dictionary has besides W_dec and b_dec."""
        scale = state_dict.pop("scale", None)
        if scale is not None and not bool((scale == 1).all()):
            raise ValueError("scale: expected 1, got other numbers; a cross-coder is no SAE of one site")
        state_dict.pop("W_enc", None)

    def fold_W_dec_norm(self) -> None:
        """Nothing to do: atoms have norm 1."""

    def fold_activation_norm_scaling_factor(self, scaling_factor: float) -> None:
        """Refused: encoder and decoder are one matrix."""
        raise ValueError("normalize_activations: the atoms are activations as they were; scale the input instead")

    def fold_activation_whitening(
        self, mean: torch.Tensor, whitening_matrix: torch.Tensor, unwhitening_matrix: torch.Tensor
    ) -> None:
        """Refused: encoder and decoder are one matrix."""
        raise ValueError("normalize_activations: the atoms are activations as they were; whiten the input instead")

    def _prepared(self) -> Gram:
        """The atoms as the kernels take them, made anew when W_dec is another."""
        atoms = self.W_dec.detach()
        key = (atoms.data_ptr(), atoms._version, atoms.dtype, atoms.device, atoms.shape)
        if self._gram is None or self._gram[0] != key:
            self._gram = (key, Gram(atoms))
        return self._gram[1]


if ARCHITECTURE not in registry.SAE_CLASS_REGISTRY:
    sae_lens.register_sae_class(ARCHITECTURE, ITDASAE, ITDASAEConfig)


def to_sae(itda: ITDA) -> ITDASAE:
    """Give the dictionary as an SAE of SAELens, as `SAE.load_from_disk` gives it after `save_pretrained`.

    Raises:
        DTypeError or ValueError that names itda.

    Example:
        >>> to_sae(ITDA(k=4).fit(torch.randn(200, 8))).cfg.d_in  # doctest: +SKIP
        8
    """
    itda = _fitted(itda)
    sae = ITDASAE(ITDASAEConfig.from_dict(saelens_cfg(itda)))
    sae.load_state_dict({"W_dec": itda.atoms.clone(), "b_dec": itda.mean.clone()}, assign=True)
    return sae


def to_matching_pursuit_sae(itda: ITDA, *, method: str | None = None) -> Any:
    """Give the dictionary as SAELens' own MatchingPursuitSAE over [D; -D], which needs no interpkern where it is used.

    Column i of its codes is atom i with a positive coefficient, column M + i with a negative one. It stops after k
    steps and not before, so where a token is rebuilt exactly, codes at rounding level follow.

    Args:
        itda: a fitted dictionary.
        method: that class computes mp. None takes dictionaries with method="mp" alone; "mp" takes any, whose codes
            will be those of mp, with a higher error than its own.

    Returns:
        sae_lens.MatchingPursuitSAE with d_sae = 2 M, or M for a non-negative dictionary.

    Raises:
        DTypeError or ValueError that names itda or method.

    Example:
        >>> itda = ITDA(k=4, method="mp").fit(torch.randn(200, 8))
        >>> to_matching_pursuit_sae(itda).cfg.max_iterations  # doctest: +SKIP
        4
    """
    itda = _fitted(itda)
    own = itda.settings.method
    if method is not None:
        choice("method", method, ("mp",))
    elif own != "mp":
        raise ValueError(
            f"method: MatchingPursuitSAE computes mp and this dictionary's is {own!r}; use to_sae, or say method='mp'"
            " to export its atoms for codes of mp"
        )
    atoms = itda.atoms if itda.settings.nonnegative else torch.cat([itda.atoms, -itda.atoms])
    shared = saelens_cfg(itda)
    config = sae_lens.MatchingPursuitSAEConfig(
        d_in=shared["d_in"],
        d_sae=len(atoms),
        max_iterations=itda.settings.k,
        residual_threshold=0.0,
        stop_on_duplicate_support=False,
    )
    config.metadata = type(config.metadata)(**shared["metadata"])
    sae = sae_lens.MatchingPursuitSAE(config)
    sae.load_state_dict({"W_dec": atoms.clone(), "b_dec": itda.mean.clone()})
    return sae


def _fitted(itda: Any) -> ITDA:
    if not isinstance(itda, ITDA):
        raise DTypeError(f"itda: expected a fitted ITDA, got {type(itda).__name__}")
    return itda.to("cpu")
