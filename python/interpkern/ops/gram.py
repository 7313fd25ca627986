"""Atoms that are checked and prepared once, kept for many calls of `matching_pursuit`, and added to."""

from typing import Any

import numpy
import torch

from interpkern import native
from interpkern.reference.matching_pursuit import Prepared
from interpkern.validation import FLOATS, Dimensions, boolean, integer, unit_rows

GROWTH = 1.5
MAX_ATOMS = (1 << 31) - 1
MAX_GRAM_ATOMS = 32_768
"""Atoms up to which products are kept unless the caller says otherwise: 2 GiB at 16 bits."""


class Gram:
    """A dictionary of unit atoms that can grow, with their products, reused between calls of `matching_pursuit`.

    The atoms are kept three times: as they are, and in 16-bit numbers as panels for their products with a sample and as
    their Gram, both of which propose atoms that float32 dot products then choose from.

    Args:
        atoms: (M, D) unit rows, torch or NumPy, floating point; copied as float32. M may be 0.
        capacity: atoms to make room for at once; None takes M. It grows by half when it is used up.
        products: keep the Gram, of 2 M^2 bytes; None keeps it for up to 32,768 atoms. Without it every pick costs a
            product of the residual with all atoms.
        threads: CPU threads; None takes PyTorch's number.

    Raises:
        ShapeError, DTypeError or ValueError that names the argument.

    Example:
        >>> gram = Gram(torch.eye(3)[:2], capacity=100)
        >>> gram.append(torch.eye(3)[2:])
        >>> len(gram)
        3
        >>> code = matching_pursuit(torch.randn(5, 3), gram.atoms, 2, gram=gram)
    """

    def __init__(
        self,
        atoms: torch.Tensor,
        capacity: int | None = None,
        *,
        products: bool | None = None,
        threads: int | None = None,
    ) -> None:
        rows = self._checked("atoms", atoms, Dimensions())
        room = len(rows) if capacity is None else integer("capacity", capacity, len(rows), MAX_ATOMS)
        self._products = None if products is None else boolean("products", products)
        self._threads = torch.get_num_threads() if threads is None else integer("threads", threads, 1, 4096)
        self._width, self._count = rows.shape[1], len(rows)
        self._buffers = self._allocate(room, rows.device)
        self._count = 0
        self._write(rows)

    def append(self, rows: torch.Tensor) -> None:
        """Add unit atoms, (n, D) or none at all, behind those that are there."""
        checked = self._checked("rows", rows, Dimensions({"D": self._width}, {"D": "atoms"}))
        if checked.device != self.atoms.device:
            raise ValueError(f"rows: expected device {self.atoms.device} to match atoms, got {checked.device}")
        self._write(checked)

    def __len__(self) -> int:
        """M, the number of atoms."""
        return self._count

    @property
    def atoms(self) -> torch.Tensor:
        """(M, D) float32 view of the atoms; not to be written to."""
        return self._buffers.rows[: self._count, : self._width]

    @property
    def prepared(self) -> Prepared | None:
        """What the compiled backend takes; None on another device than the CPU and without the compiled module."""
        return self._buffers if self._buffers.panels is not None else None

    def holds(self, atoms: Any) -> bool:
        """Whether `atoms` are this object's own, which need no second check."""
        own = self.atoms
        return (
            isinstance(atoms, torch.Tensor)
            and (atoms.data_ptr(), atoms.dtype, atoms.shape) == (own.data_ptr(), own.dtype, own.shape)
            and atoms.stride() == own.stride()
        )

    @classmethod
    def trusting(cls, atoms: torch.Tensor, *, products: bool | None, threads: int | None = None) -> "Gram":
        """A Gram of atoms that have been checked before."""
        gram = cls(atoms[:0], capacity=len(atoms), products=products, threads=threads)
        gram._write(atoms)
        return gram

    @classmethod
    def from_products(cls, atoms: torch.Tensor, products: torch.Tensor) -> "Gram":
        """A Gram that takes over (M, M) products of these atoms instead of computing them.

        Raises:
            ValueError when a row that is looked at is not the product of the atoms.
        """
        gram = cls.trusting(atoms, products=False)
        buffers, module = gram._buffers, native.load("_cpu")
        _check_products(gram.atoms, products)
        if buffers.panels is not None:
            side = len(buffers.rows)
            kept = _zeros((side, side), numpy.int16)
            for own, given in zip(kept.split(1024), products.split(1024), strict=False):
                own[: len(given), : len(products)] = (given / module.PRODUCT_STEP).round_()
            gram._buffers = buffers._replace(products=kept)
        gram._products = True
        return gram

    @staticmethod
    def _checked(name: str, rows: torch.Tensor, dimensions: Dimensions) -> torch.Tensor:
        return unit_rows(name, dimensions.tensor(name, rows, "M D", FLOATS, may_be_empty="M"))

    def _write(self, rows: torch.Tensor) -> None:
        first, self._count = self._count, self._count + len(rows)
        if self._count > len(self._buffers.rows) or self._keeps_products(self._count) < self._keeps_products(first):
            self._grow(first)
        self.atoms[first:] = rows
        if self._buffers.panels is not None and len(rows) > 0:
            native.call(
                native.load("_cpu").add_atoms,
                **self._buffers._asdict(),
                first=first,
                count=self._count,
                threads=self._threads,
                isa=native.isa(),
            )

    def _keeps_products(self, atoms: int) -> bool:
        return atoms <= MAX_GRAM_ATOMS if self._products is None else self._products

    def _grow(self, filled: int) -> None:
        old = self._buffers
        self._buffers = new = self._allocate(max(self._count, int(GROWTH * filled)), old.rows.device)
        new.rows[:filled] = old.rows[:filled]
        new.rounding[:] = old.rounding
        if new.panels is not None and old.panels is not None:
            panels = -(-filled // old.panels.shape[2])
            new.panels[:panels] = old.panels[:panels]
        if new.products is not None and old.products is not None:
            new.products[:filled, :filled] = old.products[:filled, :filled]

    def _allocate(self, atoms: int, device: torch.device) -> Prepared:
        module = native.load("_cpu")
        if isinstance(module, str) or device.type != "cpu":
            return Prepared(torch.zeros(atoms, self._width, device=device), torch.zeros(1), None, None)
        room, padded = _up(max(atoms, 1), module.BLOCK), _up(self._width, module.PANEL)
        side = min(room, MAX_GRAM_ATOMS) if self._products is None else room
        return Prepared(
            rows=_zeros((room, padded), numpy.float32),
            rounding=torch.zeros(1),
            panels=_zeros((room // module.PANEL, -(-self._width // 2), module.PANEL, 2), numpy.int16),
            products=_zeros((side, side), numpy.int16) if self._keeps_products(self._count) else None,
        )


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _zeros(shape: tuple[int, ...], dtype: type) -> torch.Tensor:
    """Zeros that take no memory until they are written to, as torch.zeros would."""
    return torch.from_numpy(numpy.zeros(shape, dtype))


def _check_products(atoms: torch.Tensor, products: torch.Tensor, looks: int = 8) -> None:
    """Compares a few rows, since all would cost as much as computing them."""
    for row in torch.linspace(0, len(atoms) - 1, looks).long().unique().tolist():
        off = float((atoms @ atoms[row] - products[row]).abs().max())
        if not off <= 1e-5:  # what the kernel's bounds allow for
            raise ValueError(
                f"gram: expected atoms @ atoms.T, got a row {row} that is off by {off:.3g}; leave gram out, or make it"
                " anew from these atoms"
            )
    if not float(products.abs().max()) <= 1.02:
        raise ValueError("gram: expected products of unit atoms, got a number beyond 1.02")
