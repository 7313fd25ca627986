// The arithmetic roof of one core.
#pragma once

#include <stdint.h>

#include "common/isa.h"

#define INTERPKERN_DECLARE(isa)                                                           \
  namespace interpkern::isa {                                                             \
  /* Does `iterations` rounds of independent fused multiply-adds; returns their FLOPs. */ \
  int64_t fma_loop(int64_t iterations);                                                   \
  }
INTERPKERN_FOR_EACH_ISA(INTERPKERN_DECLARE)
#undef INTERPKERN_DECLARE
