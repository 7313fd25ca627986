"""A dictionary as SAEBench takes custom SAEs: an object with encode, decode, weights and a cfg; needs no SAEBench."""

from dataclasses import dataclass, field
from typing import Any

import torch

from interpkern.activations.bridges import hook_layer as layer_of
from interpkern.errors import DTypeError, ShapeError
from interpkern.itda.dictionary import ITDA
from interpkern.validation import boolean, choice, integer, short

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass
class SAEBenchConfig:
    """The fields of SAEBench's CustomSAEConfig."""

    model_name: str
    d_in: int
    d_sae: int
    hook_layer: int
    hook_name: str
    context_size: int
    prepend_bos: bool
    dtype: str
    training_tokens: int
    device: str = "cpu"
    architecture: str = "itda"
    hook_head_index: int | None = None
    apply_b_dec_to_input: bool = True
    finetuning_scaling_factor: bool = False
    activation_fn_str: str = ""
    activation_fn_kwargs: dict[str, Any] = field(default_factory=dict)
    normalize_activations: str = "none"
    model_from_pretrained_kwargs: dict[str, Any] = field(default_factory=dict)
    dataset_path: str = ""
    dataset_trust_remote_code: bool = False
    seqpos_slice: tuple[int | None, ...] = (None,)
    sae_lens_training_version: str | None = None
    neuronpedia_id: str | None = None


class SAEBenchITDA(torch.nn.Module):
    """A fitted dictionary for SAEBench.

    Codes are signed, and some of SAEBench's evaluations count only what is above 0. With `split_signs` they are not:
    feature i is atom i with a positive coefficient, feature M + i with a negative one, and d_sae is 2 M.

    Args:
        itda: a fitted dictionary; encoding runs where it does, on the CPU.
        model_name: the model; None takes what the dictionary knows.
        hook_name: the hook point; None takes what the dictionary knows.
        hook_layer: its layer; None reads it off the name.
        context_size: tokens of a text.
        prepend_bos: whether texts begin with the model's BOS token.
        dtype: float32, bfloat16 or float16 of weights, codes and reconstructions.
        split_signs: make codes non-negative.

    Raises:
        DTypeError or ValueError that names the argument.

    Example:
        >>> itda = ITDA(k=4).fit(torch.randn(200, 8))
        >>> sae = SAEBenchITDA(itda, model_name="gpt2", hook_name="blocks.3.hook_resid_pre")
        >>> sae.encode(torch.randn(2, 5, 8)).shape[-1] == sae.cfg.d_sae, sae.cfg.hook_layer
        (True, 3)
    """

    def __init__(
        self,
        itda: ITDA,
        *,
        model_name: str | None = None,
        hook_name: str | None = None,
        hook_layer: int | None = None,
        context_size: int = 128,
        prepend_bos: bool = True,
        dtype: str = "float32",
        split_signs: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(itda, ITDA):
            raise DTypeError(f"itda: expected a fitted ITDA, got {type(itda).__name__}")
        self.itda, self.split_signs = itda, boolean("split_signs", split_signs)
        self.dtype, self.device = DTYPES[choice("dtype", dtype, tuple(DTYPES))], torch.device("cpu")
        atoms = itda.atoms.to(self.device, copy=True)
        atoms = torch.cat([atoms, -atoms]) if self.split_signs else atoms
        hook = _known("hook_name", hook_name, itda.data["hook"])
        self.cfg = SAEBenchConfig(
            model_name=_known("model_name", model_name, itda.data["model"]),
            d_in=atoms.shape[1],
            d_sae=len(atoms),
            hook_layer=integer("hook_layer", layer_of(hook) if hook_layer is None else hook_layer, 0),
            hook_name=hook,
            context_size=integer("context_size", context_size, 1),
            prepend_bos=boolean("prepend_bos", prepend_bos),
            dtype=dtype,
            training_tokens=itda.report.rows_seen,
            dataset_path=itda.data["id"] or "",
        )
        self.W_dec, self.W_enc = self._weights(atoms), self._weights(atoms.T.contiguous())
        self.b_dec = self._weights(itda.mean.to(self.device, copy=True))
        self.b_enc = self._weights(torch.zeros(len(atoms)))

    def _weights(self, values: torch.Tensor) -> torch.nn.Parameter:
        return torch.nn.Parameter(values.to(self.dtype), requires_grad=False)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """(..., D) activations to (..., d_sae) codes; no gradient passes."""
        if x.ndim == 0 or x.shape[-1] != self.cfg.d_in:
            raise ShapeError(f"x: expected (..., {self.cfg.d_in}), got {tuple(x.shape)}")
        code = self.itda.encode(x.detach().reshape(-1, self.cfg.d_in), progress=False)
        dense = code.to_dense(len(self.itda))
        if self.split_signs:
            dense = torch.cat([dense.clamp(min=0), dense.neg().clamp(min=0)], dim=1)
        return dense.to(self.device, self.dtype).reshape(*x.shape[:-1], self.cfg.d_sae)

    def decode(self, feature_acts: torch.Tensor) -> torch.Tensor:
        """(..., d_sae) codes to (..., D) activations."""
        return feature_acts.to(self.dtype) @ self.W_dec + self.b_dec

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The reconstruction of (..., D) activations."""
        return self.decode(self.encode(x))

    def to(self, *args: Any, **kwargs: Any) -> "SAEBenchITDA":
        """Move the weights and codes, as torch.nn.Module.to does; encoding happens where its input lies."""
        super().to(*args, **kwargs)
        self.device, self.dtype = self.W_dec.device, self.W_dec.dtype
        self.cfg.device, self.cfg.dtype = str(self.device), short(self.dtype)
        return self


def _known(name: str, given: str | None, known: str | None) -> str:
    value = known if given is None else given
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name}: expected a name, got {value!r}; this dictionary doesn't know it, so give it")
    return value
