"""One mechanism for checking what callers pass: types, dtypes, shapes against each other, ranges, finiteness."""

import difflib
import math
import numbers
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy
import torch

from interpkern.errors import DTypeError, ShapeError

SERIAL, MANY = 1 << 14, 1 << 22
"""Elements checked at once: on the CPU so few that PyTorch uses one thread, as its others would go on spinning for
milliseconds beside the kernel that is called next."""
HALF_PRECISION = (torch.float16, torch.bfloat16)
FLOATS = (torch.float32, torch.float64, *HALF_PRECISION)


@dataclass
class Dimensions:
    """Sizes of one call by dimension letter; the first tensor that has a letter binds it, later ones must agree."""

    sizes: dict[str, int] = field(default_factory=dict)
    bound_by: dict[str, str] = field(default_factory=dict)

    def tensor(
        self,
        name: str,
        value: Any,
        letters: str,
        dtypes: Collection[torch.dtype],
        *,
        finite: bool = True,
        may_be_empty: str = "",
    ) -> torch.Tensor:
        """Check `value` against `letters` ("B R D"), bind new letters, and return it as a contiguous tensor.

        A dimension of size 0 is refused unless its letter is in `may_be_empty`.
        """
        tensor = plain_tensor(name, value)
        self._check_shape(name, tensor, letters.split(), may_be_empty.split())
        if tensor.dtype not in dtypes:
            accepted = " or ".join(short(dtype) for dtype in dtypes)
            raise DTypeError(
                f"{name}: expected {accepted}, got {short(tensor.dtype)}; convert it with .to() or .astype()"
            )
        if finite and not is_finite(tensor):
            raise ValueError(f"{name}: expected finite numbers, got NaN or infinity; look for what made them")
        return tensor.contiguous()

    def _check_shape(self, name: str, tensor: torch.Tensor, letters: list[str], may_be_empty: list[str]) -> None:
        shape = tuple(tensor.shape)
        wanted = tuple(self.sizes.get(letter) for letter in letters)
        if not _fits(shape, wanted):
            raise ShapeError(f"{name}: expected {self._describe(letters)}, got {shape}.{_hint(name, shape, wanted)}")
        for letter, size in zip(letters, shape, strict=True):
            if size < 1 and letter not in may_be_empty:
                others = f" but {', '.join(may_be_empty)}" if may_be_empty else ""
                raise ShapeError(
                    f"{name}: expected ({', '.join(letters)}) with no empty dimension{others}, got {shape}."
                )
            if letter not in self.sizes:
                self.sizes[letter] = size
                self.bound_by[letter] = name

    def _describe(self, letters: list[str]) -> str:
        known = [letter for letter in letters if letter in self.sizes]
        pattern = f"({', '.join(letters)}{',' if len(letters) == 1 else ''})"
        if not known:
            return pattern
        sizes = ", ".join(f"{letter} = {self.sizes[letter]}" for letter in known)
        owners = dict.fromkeys(self.bound_by[letter] for letter in known)
        return f"{pattern} with {sizes} to match {' and '.join(owners)}"


def _fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(shape) == len(wanted) and all(
        size is None or size == have for have, size in zip(shape, wanted, strict=True)
    )


def _hint(name: str, shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> str:
    if len(shape) >= 2 and _fits((*shape[:-2], shape[-1], shape[-2]), wanted):
        return f" Did you mean {name}.mT?"
    if len(shape) + 1 == len(wanted) and _fits((1, *shape), wanted):
        return f" Did you mean {name}[None]?"
    return ""


def short(dtype: torch.dtype) -> str:
    """float32 for torch.float32."""
    return str(dtype).removeprefix("torch.")


def plain_tensor(name: str, value: Any) -> torch.Tensor:
    """A strided tensor that holds its own numbers, or an error that says why `value` is none."""
    if isinstance(value, numpy.ndarray):
        value = _from_numpy(name, value)
    if not isinstance(value, torch.Tensor):
        raise DTypeError(f"{name}: expected a torch tensor or a NumPy array, got {type(value).__name__}")
    reason = _not_plain(value)
    if reason:
        raise DTypeError(f"{name}: expected a dense tensor of numbers, got {reason}")
    if value.requires_grad:
        raise ValueError(f"{name}: requires_grad is set and no gradient passes through here; pass {name}.detach()")
    return value


def _from_numpy(name: str, array: numpy.ndarray) -> torch.Tensor:
    if isinstance(array, numpy.ma.MaskedArray):
        raise DTypeError(f"{name}: expected an array without a mask, got a masked one; use .filled()")
    native = numpy.array(array, dtype=array.dtype.newbyteorder("="), order="C")
    try:
        return torch.from_numpy(native)
    except TypeError:
        raise DTypeError(f"{name}: expected an array of numbers or booleans, got dtype {array.dtype}") from None


def _not_plain(tensor: torch.Tensor) -> str | None:
    from torch._subclasses.fake_tensor import FakeTensor

    if isinstance(tensor, FakeTensor):
        return "a fake tensor"
    if tensor.is_meta:
        return "a meta tensor, which holds no numbers"
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return "a tensor inside torch.func; call it outside vmap and grad"
    if tensor.is_nested:
        return "a nested tensor; pad it"
    if tensor.layout != torch.strided:
        return f"layout {str(tensor.layout).removeprefix('torch.')}; convert it with .to_dense()"
    if tensor.is_quantized:
        return "a quantised tensor; convert it with .dequantize()"
    if tensor.is_neg() or tensor.is_conj():
        return "a lazy view; materialise it with .resolve_neg().resolve_conj()"
    return None


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether every element is finite, read in chunks so that no mask of the whole tensor is built."""
    if not tensor.is_floating_point():
        return True
    if tensor.device.type == "cpu" and tensor.dtype != torch.bfloat16:
        flat = tensor.detach().reshape(-1).numpy()  # NumPy wakes no threads, which would cost more than they save
        return all(numpy.isfinite(flat[at : at + SERIAL]).all() for at in range(0, len(flat), SERIAL))
    chunk = SERIAL if tensor.device.type == "cpu" else MANY
    return all(bool(torch.isfinite(part).all()) for part in tensor.reshape(-1).split(chunk))


def zeros_and_ones(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """The tensor as uint8, refused unless every element is 0 or 1."""
    bits = tensor.to(torch.uint8)
    if bool((bits > 1).any()) or not torch.equal(bits.to(tensor.dtype), tensor):
        raise ValueError(f"{name}: expected only 0 and 1, got other values; threshold it first, say ({name} > 0)")
    return bits


def unit_rows(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """The (M, D) tensor, refused unless each row has norm 1 to within 1e-4, or 1e-2 in half precision."""
    slack = 1e-2 if tensor.dtype in HALF_PRECISION else 1e-4
    dtype = torch.promote_types(tensor.dtype, torch.float32)
    off = (torch.linalg.vector_norm(tensor, dim=1, dtype=dtype) - 1).abs()
    worst = int(off.argmax()) if len(off) else 0
    if len(off) and not bool(off[worst] <= slack):
        norm = torch.linalg.vector_norm(tensor[worst], dtype=dtype)
        raise ValueError(
            f"{name}: expected rows of norm 1 (within {slack:g}), got norm {float(norm):.6g} in row {worst};"
            f" normalise them, say {name} / {name}.norm(dim=1, keepdim=True)"
        )
    return tensor


def integer(name: str, value: Any, minimum: int, maximum: int = (1 << 62)) -> int:
    """`value` as an int in [minimum, maximum]; booleans and fractions are refused."""
    if isinstance(value, (bool, numpy.bool_)) or not isinstance(value, numbers.Integral):
        raise DTypeError(f"{name}: expected an integer, got {_shown(value)}")
    as_int = int(value)
    if not minimum <= as_int <= maximum:
        raise ValueError(f"{name}: expected an integer from {minimum} to {maximum}, got {as_int}")
    return as_int


def number(name: str, value: Any, low: float, high: float = math.inf, *, below: float = math.inf) -> float:
    """`value` as a finite float with low <= value <= high and value < below."""
    if isinstance(value, (bool, numpy.bool_)) or not isinstance(value, numbers.Real):
        raise DTypeError(f"{name}: expected a number, got {_shown(value)}")
    try:
        as_float = float(value)
    except OverflowError:
        as_float = math.inf
    if not (math.isfinite(as_float) and low <= as_float <= high and as_float < below):
        raise ValueError(f"{name}: expected {_interval(low, high, below)}, got {value}")
    return as_float


def per_model(
    name: str, value: Any, models: int, low: float, high: float = math.inf, *, below: float = math.inf
) -> torch.Tensor:
    """A number, or one number a model, as a (B,) float64 tensor on the CPU."""
    if isinstance(value, (torch.Tensor, numpy.ndarray)):
        tensor = plain_tensor(name, value)
        if tensor.ndim == 0:
            tensor = tensor.expand(models)
        dimensions = Dimensions({"B": models}, {"B": "models"})
        tensor = dimensions.tensor(name, tensor, "B", REAL_DTYPES).to("cpu", torch.float64)
        if not bool(((tensor >= low) & (tensor <= high) & (tensor < below)).all()):
            raise ValueError(f"{name}: expected {_interval(low, high, below)} for every model")
        return tensor
    if isinstance(value, (list, tuple)):
        raise DTypeError(f"{name}: expected a number or a ({models},) tensor, got a {type(value).__name__}")
    return torch.full((models,), number(name, value, low, high, below=below), dtype=torch.float64)


def choice(name: str, value: Any, options: Sequence[str]) -> str:
    """`value` when it is one of `options`."""
    if not isinstance(value, str):
        raise DTypeError(f"{name}: expected one of {', '.join(options)}, got {_shown(value)}")
    if value not in options:
        folded = {option.casefold(): option for option in reversed(options)}
        close = difflib.get_close_matches(value.casefold(), folded, n=1)
        hint = f" Did you mean {folded[close[0]]!r}?" if close else ""
        raise ValueError(f"{name}: expected one of {', '.join(options)}, got {value!r}.{hint}")
    return value


def device(name: str, value: Any) -> torch.device:
    """`value` as a device of this machine, with its number: "cpu", "cuda", "cuda:1" or a torch.device."""
    if not isinstance(value, (str, torch.device)):
        raise DTypeError(f"{name}: expected a device such as 'cpu' or 'cuda:0', got {_shown(value)}")
    try:
        found = torch.empty(0, device=torch.device(value)).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{name}: expected a device of this machine, got {str(value)!r} ({reason})") from None
    if found.type not in ("cpu", "cuda"):
        raise ValueError(f"{name}: expected a CPU or a GPU, got {str(value)!r}")
    return found


def boolean(name: str, value: Any) -> bool:
    """`value` when it is True or False."""
    if not isinstance(value, (bool, numpy.bool_)):
        raise DTypeError(f"{name}: expected True or False, got {_shown(value)}")
    return bool(value)


REAL_DTYPES = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
)


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def _interval(low: float, high: float, below: float) -> str:
    if math.isfinite(below):
        return f"a number in [{low:g}, {below:g})"
    if math.isfinite(high):
        return f"a number in [{low:g}, {high:g}]"
    return f"a finite number >= {low:g}"
