// Products of small tiles of float16 numbers as a warp's tensor core makes them, and as the CPU emulates it.
#pragma once

#include "common/portable.h"

namespace interpkern {

// A warp's part in sum (16, 8) += left (16, 16) right (16, 8), with the fragments of mma.m16n8k16 (PTX ISA, "Matrix
// Fragments for mma.m16n8k16"): numbers of one lane, pairs of neighbours along the depth in 32 bits.
struct Operands {
  float* sum;             // 4
  const uint32_t* left;   // 4
  const uint32_t* right;  // 2
};

// float16 as float32, exactly.
INTERPKERN_PORTABLE float half_as_float(uint32_t half) {
#if defined(__CUDA_ARCH__)
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(uint16_t(half)));
  return x;
#else
  const float magnitude = as_float((half & 0x7fff) << 13) * 0x1p112f;
  return half & 0x8000 ? -magnitude : magnitude;
#endif
}

#if !defined(__CUDACC__)
// |x| < 65520 rounded to float16, to the nearest and to even.
inline uint32_t half_of(float x) {
  const uint32_t sign = as_bits(x) >> 16 & 0x8000, size = as_bits(x) & 0x7fffffff;
  if (size < 0x38800000) return sign | (as_bits(as_float(size) + 0.5f) - as_bits(0.5f));  // below 2^-14: steps of 2^-24
  return sign | (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13;
}
#endif

// Two numbers rounded to float16; the first in the low half.
INTERPKERN_PORTABLE uint32_t half_pair(float low, float high) {
#if defined(__CUDA_ARCH__)
  uint32_t pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#elif !defined(__CUDACC__)
  return half_of(low) | half_of(high) << 16;
#else
  return 0;
#endif
}

INTERPKERN_PORTABLE float low_of(uint32_t pair) {
  return half_as_float(pair & 0xffff);
}

INTERPKERN_PORTABLE float high_of(uint32_t pair) {
  return half_as_float(pair >> 16);
}

#if defined(__CUDACC__)

INTERPKERN_KERNEL void multiply_tile(const Operands& o) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(o.sum[0]), "+f"(o.sum[1]), "+f"(o.sum[2]), "+f"(o.sum[3])
      : "r"(o.left[0]), "r"(o.left[1]), "r"(o.left[2]), "r"(o.left[3]), "r"(o.right[0]), "r"(o.right[1]));
}

#else

inline void multiply_tile(const Operands (&lanes)[WARP]) {
  float left[16][16], right[8][16];
  for (int lane = 0; lane < WARP; ++lane) {
    const int group = lane / 4, pair = lane % 4 * 2;
    for (int i = 0; i < 4; ++i) {
      left[group + i % 2 * 8][pair + i / 2 * 8] = low_of(lanes[lane].left[i]);
      left[group + i % 2 * 8][pair + i / 2 * 8 + 1] = high_of(lanes[lane].left[i]);
    }
    for (int i = 0; i < 2; ++i) {
      right[group][pair + i * 8] = low_of(lanes[lane].right[i]);
      right[group][pair + i * 8 + 1] = high_of(lanes[lane].right[i]);
    }
  }
  for (int lane = 0; lane < WARP; ++lane)
    for (int i = 0; i < 4; ++i) {
      const float *row = left[lane / 4 + i / 2 * 8], *column = right[lane % 4 * 2 + i % 2];
      for (int d = 0; d < 16; ++d) lanes[lane].sum[i] += row[d] * column[d];
    }
}

#endif

}  // namespace interpkern
