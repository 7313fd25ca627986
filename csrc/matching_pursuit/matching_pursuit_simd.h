// What each ISA's copy of matching_pursuit_simd.cpp offers. Samples and atoms come in groups of at most GROUP.
#pragma once

#include "common/isa.h"
#include "matching_pursuit.h"

namespace interpkern {
constexpr int64_t GROUP = 64;
}

#define INTERPKERN_DECLARE(isa)                                                                                \
  namespace interpkern::isa {                                                                                  \
  int64_t pursuit_workspace_bytes(const Pursuit& pursuit);                                                     \
  int64_t changes_workspace_bytes(const Pursuit& pursuit);                                                     \
  void pack_panel(const Atoms& atoms, int64_t panel);                                                          \
  void multiply_atoms(const Atoms& atoms, int64_t appended_from, int64_t first, int64_t count);                \
  void pursue_group(const Pursuit& p, int64_t first, int64_t count, const Stop& stop, void* workspace);        \
  void find_changes(const Pursuit& p, int64_t first, int64_t count, const Stop& stop, void* workspace);        \
  }
INTERPKERN_FOR_EACH_ISA(INTERPKERN_DECLARE)
#undef INTERPKERN_DECLARE
