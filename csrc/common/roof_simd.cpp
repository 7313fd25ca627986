#include "common/simd.h"

namespace interpkern::INTERPKERN_ISA {

int64_t fma_loop(int64_t iterations) {
  constexpr int CHAINS = 12;
  Vec x = broadcast(0.999f), y = broadcast(0.001f), sum[CHAINS];
  for (int chain = 0; chain < CHAINS; ++chain)
    sum[chain] = broadcast(float(chain));  // different, so that none is shared
  for (int64_t i = 0; i < iterations; ++i) {
    for (int chain = 0; chain < CHAINS; ++chain) sum[chain] = fma(sum[chain], x, y);
    INTERPKERN_OPAQUE(x);
  }
  for (int chain = 1; chain < CHAINS; ++chain) sum[0] += sum[chain];
  INTERPKERN_OPAQUE(sum[0]);
  return iterations * CHAINS * LANES * 2;
}

}  // namespace interpkern::INTERPKERN_ISA
