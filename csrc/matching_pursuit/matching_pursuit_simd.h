// What each ISA's copy of matching_pursuit_simd.cpp offers: work that threads share by taking from one queue.
#pragma once

#include "common/isa.h"
#include "matching_pursuit.h"

namespace interpkern {
constexpr int64_t GROUP = 64;  // vectors multiplied with the atoms at once
}

#define INTERPKERN_DECLARE(isa)                                                                       \
  namespace interpkern::isa {                                                                         \
  int64_t pursuit_workspace_bytes(const Pursuit& pursuit);                                            \
  int64_t changes_workspace_bytes(const Pursuit& pursuit);                                            \
  void pursue(const Pursuit& pursuit, Queue& queue, void* workspace);                                 \
  void find_changes(const Pursuit& pursuit, Queue& queue, void* workspace);                           \
  void tile_products(const Pursuit& pursuit, Queue& queue, void* workspace, const TileProducts& out); \
  void multiply_atoms(const Atoms& atoms, int64_t appended_from, bool mirrored, Queue& queue);        \
  void pack_panel(const Atoms& atoms, int64_t first, int64_t panel);                                  \
  PanelLayout panel_layout(int64_t width);                                                            \
  }
INTERPKERN_FOR_EACH_ISA(INTERPKERN_DECLARE)
#undef INTERPKERN_DECLARE
