// The kernels' entry points; the work is in the headers.
#include "matching_pursuit_simd.h"

#include "gram_group.h"
#include "replay.h"
#include "residual_group.h"

namespace interpkern::INTERPKERN_ISA {
namespace {

// Writes the tile of products between the atoms from `first` and from `column` on, and their mirror among older rows.
void write_products(const Atoms& atoms, int64_t appended_from, int64_t first, int64_t count, int64_t column,
                    const float* products) {
  for (int64_t i = 0; i < count; ++i)
    for (int64_t j = 0; j < PANEL; ++j) {
      const int16_t rounded = int16_t(__builtin_rintf(products[i * PANEL + j] / PRODUCT_STEP));
      atoms.products[(first + i) * atoms.stride + column + j] = rounded;
      if (column + j < appended_from) atoms.products[(column + j) * atoms.stride + first + i] = rounded;
    }
}

}  // namespace

int64_t pursuit_workspace_bytes(const Pursuit& p) {
  Arena arena{nullptr};
  if (p.atoms.products)
    GramGroup{p, arena};
  else
    ResidualGroup{p, arena};
  return arena.used;
}

void pursue(const Pursuit& p, Queue& queue, void* workspace) {
  Arena arena{static_cast<char*>(workspace)};
  if (p.atoms.products)
    GramGroup(p, arena).run(queue);
  else
    ResidualGroup(p, arena).run(queue);
}

int64_t changes_workspace_bytes(const Pursuit& p) {
  Arena arena{nullptr};
  Replay{p, arena};
  return arena.used;
}

void find_changes(const Pursuit& p, Queue& queue, void* workspace) {
  Arena arena{static_cast<char*>(workspace)};
  Replay replay(p, arena);
  int64_t row;
  while (take(queue, 1, row)) p.changed[row] = replay.changes(row);
}

void pack_panel(const Atoms& atoms, int64_t panel) {
  float* packed = atoms.panels + panel * PANEL * atoms.width;
  for (int64_t d = 0; d < atoms.width; ++d)
    for (int64_t i = 0; i < PANEL; ++i)
      packed[d * PANEL + i] = atoms.rows[(panel * PANEL + i) * atoms.padded_width + d];
}

int64_t multiply_workspace_bytes(const Atoms& atoms) {
  return GROUP * (atoms.width + PANEL) * int64_t(sizeof(float));
}

void multiply_atoms(const Atoms& atoms, int64_t appended_from, Queue& queue, void* workspace) {
  const float* rows[GROUP];
  float* products = static_cast<float*>(workspace);
  float* packed = products + GROUP * PANEL;
  int64_t first;
  while (const int64_t count = take(queue, GROUP, first)) {
    first += appended_from;
    for (int64_t i = 0; i < count; ++i) rows[i] = atoms.rows + (first + i) * atoms.padded_width;
    pack_rows(rows, count, atoms.width, packed);
    for (int64_t column = 0; column < atoms.count; column += PANEL) {
      multiply_panel(packed, count, atoms.panels + column * atoms.width, atoms.width, products);
      write_products(atoms, appended_from, first, count, column, products);
    }
  }
}

}  // namespace interpkern::INTERPKERN_ISA
