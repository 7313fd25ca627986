"""Atoms that are checked and prepared once, kept for many calls of `matching_pursuit`, and added to."""

from typing import Any

import torch

from interpkern.ops.gram_stores import ON_GPU, PLAIN, store_for
from interpkern.reference.matching_pursuit import Prepared, Problem
from interpkern.validation import FLOATS, Dimensions, boolean, integer, unit_rows

GROWTH = 1.5
MAX_ATOMS = (1 << 31) - 1
MAX_GRAM_ATOMS = 32_768
"""Atoms up to which products are kept unless the caller says otherwise: 2 GiB at 16 bits, 4 GiB on a GPU."""


class Gram:
    """A dictionary of unit atoms that can grow, with their products, reused between calls of `matching_pursuit`.

    On the CPU the atoms are kept three times: as they are, and in 16-bit numbers as panels for their products with a
    sample and as their Gram, both of which propose atoms that float32 dot products then choose from. On a GPU they are
    kept as they are, and their Gram in float32; it stays there, and so do atoms that are appended.

    Args:
        atoms: (M, D) unit rows, torch or NumPy, floating point; copied as float32 to where they are. M may be 0.
        capacity: atoms to make room for at once; None takes M. It grows by half when it is used up.
        products: keep the Gram, of 2 M^2 bytes on the CPU and 4 M^2 on a GPU; None keeps it for up to 32,768 atoms.
            Without it every pick costs a product of the residual with all atoms.
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
        self._store = store_for(rows.device)
        self._buffers = self._allocate(room, rows.device)
        self._count = 0
        self._expected, self._multiplied = rows[:0], False
        self._write(rows)

    def append(self, rows: torch.Tensor) -> None:
        """Add unit atoms, (n, D) or none at all, behind those that are there."""
        checked = self._checked("rows", rows, Dimensions({"D": self._width}, {"D": "atoms"}))
        if checked.device != self.atoms.device:
            raise ValueError(f"rows: expected device {self.atoms.device} to match atoms, got {checked.device}")
        self._write(checked)

    def expect(self, rows: torch.Tensor) -> None:
        """Multiply atoms that may come, for `append_expected`, with those that are there in one pass through memory.

        Args:
            rows: (n, D) contiguous float32 unit rows that lie where the atoms do; not checked.
        """
        count, after = self._count, self._count + len(rows)
        self._expected, self._multiplied = rows, False
        if self._store.expect is None or not self._keeps_products(after):
            return
        if after > len(self._buffers.rows):
            self._grow(count, after)
        self._buffers.rows[count:after, : self._width] = rows
        self._store.expect(self._buffers, count, after, self._threads)
        self._multiplied = True

    def append_expected(self) -> None:
        """Append the first of the rows that are expected; ValueError if none is."""
        row, self._expected = self._expected[:1], self._expected[1:]
        if len(row) == 0:
            raise ValueError("append_expected: expected rows that `expect` was given before, got none")
        if not self._multiplied or self._store.admit is None:
            self._write(row)
            return
        self._count += 1
        self._store.admit(self._buffers, self._count)

    def __len__(self) -> int:
        """M, the number of atoms."""
        return self._count

    @property
    def atoms(self) -> torch.Tensor:
        """(M, D) float32 view of the atoms; not to be written to."""
        return self._buffers.rows[: self._count, : self._width]

    @property
    def prepared(self) -> Prepared | None:
        """What the compiled backends take; None where there are none for the device of the atoms."""
        return None if self._store is PLAIN else self._buffers

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
        _check_products(gram.atoms, products)
        gram._buffers = gram._store.take_products(gram._buffers, products)
        gram._products = True
        return gram

    @staticmethod
    def _checked(name: str, rows: torch.Tensor, dimensions: Dimensions) -> torch.Tensor:
        return unit_rows(name, dimensions.tensor(name, rows, "M D", FLOATS, may_be_empty="M"))

    def _write(self, rows: torch.Tensor) -> None:
        first, self._count = self._count, self._count + len(rows)
        self._multiplied = False
        if self._count > len(self._buffers.rows) or self._keeps_products(self._count) < self._keeps_products(first):
            self._grow(first, self._count)
        self.atoms[first:] = rows
        if len(rows) > 0:
            self._store.add(self._buffers, first, self._count, self._threads)

    def _keeps_products(self, atoms: int) -> bool:
        return atoms <= MAX_GRAM_ATOMS if self._products is None else self._products

    def _grow(self, filled: int, needed: int) -> None:
        old = self._buffers
        self._buffers = self._allocate(max(needed, int(GROWTH * filled)), old.rows.device)
        self._store.move(self._buffers, old, filled)

    def _allocate(self, atoms: int, device: torch.device) -> Prepared:
        most = min(atoms, MAX_GRAM_ATOMS) if self._products is None else atoms
        side = max(most, 1) if self._keeps_products(self._count) else 0
        return self._store.allocate(atoms, side, self._width, device)


def gram_pays(problem: Problem) -> bool:
    """Whether a call that brings no Gram makes one: it must fit, and cost no more than the products it saves.

    In exact precision the form never shows in the results, so it may depend on N; in fast precision it must not.
    """
    fits = len(problem.atoms) <= MAX_GRAM_ATOMS
    return fits and (problem.precision == "fast" or len(problem.x) * problem.k >= len(problem.atoms))


def prepared_on_gpu(problem: Problem, *, products: bool) -> Prepared:
    """What the caller has prepared of the atoms as the GPU's kernels take it, or else that made anew."""
    given, (count, width) = problem.gram, problem.atoms.shape
    if given is not None and given.panels is None:
        return given
    kept = products if given is None else given.products is not None
    made = ON_GPU.allocate(count, count if kept else 0, width, problem.atoms.device)
    made.rows[:count, :width] = problem.atoms
    ON_GPU.add(made, 0, count, problem.threads)
    return made


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
