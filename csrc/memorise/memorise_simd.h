// What each ISA's copy of memorise_simd.cpp offers.
#pragma once

#include "common/isa.h"
#include "memorise.h"

#define INTERPKERN_DECLARE(isa)                                                          \
  namespace interpkern::isa {                                                            \
  int lanes();                                                                           \
  int64_t workspace_bytes(const MemoriseProblem& problem);                               \
  void train_models(const MemoriseProblem& problem, ModelQueue& queue, void* workspace); \
  }
INTERPKERN_FOR_EACH_ISA(INTERPKERN_DECLARE)
#undef INTERPKERN_DECLARE
