// Arithmetic with one source for the host and the device, so that a CPU can test what a GPU runs.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

// PORTABLE and, without being inlined by force, BOTH run on either side; KERNEL runs on the device, or on the host
// where no nvcc compiles it.
#if defined(__CUDACC__)
#define INTERPKERN_PORTABLE __host__ __device__ __forceinline__
#define INTERPKERN_KERNEL __device__ __forceinline__
#define INTERPKERN_BOTH __host__ __device__
#define INTERPKERN_UNROLL _Pragma("unroll")
#define INTERPKERN_UNROLL_BY_2 _Pragma("unroll 2")
#define INTERPKERN_UNROLL_BY_4 _Pragma("unroll 4")
#define INTERPKERN_NO_UNROLL _Pragma("unroll 1")
#else
#define INTERPKERN_PORTABLE inline __attribute__((always_inline))
#define INTERPKERN_KERNEL inline
#define INTERPKERN_BOTH
#define INTERPKERN_UNROLL
#define INTERPKERN_UNROLL_BY_2
#define INTERPKERN_UNROLL_BY_4
#define INTERPKERN_NO_UNROLL
#endif

namespace interpkern {

constexpr int WARP = 32;

// Four neighbours, moved at once.
struct alignas(16) Quad {
  float v[4];
};

INTERPKERN_PORTABLE Quad read_quad(const float* memory) {
  return *reinterpret_cast<const Quad*>(memory);
}

INTERPKERN_PORTABLE void write_quad(float* memory, const Quad& quad) {
  *reinterpret_cast<Quad*>(memory) = quad;
}

INTERPKERN_PORTABLE float as_float(uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
#endif
}

INTERPKERN_PORTABLE uint32_t as_bits(float x) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(x);
#else
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
#endif
}

// a b + c, rounded once on a GPU.
INTERPKERN_PORTABLE float multiply_add(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return a * b + c;
#endif
}

INTERPKERN_PORTABLE double multiply_add(double a, double b, double c) {
#if defined(__CUDA_ARCH__)
  return __fma_rn(a, b, c);
#else
  return a * b + c;
#endif
}

// The larger of the two; NaN where either is.
INTERPKERN_PORTABLE float larger(float a, float b) {
#if defined(__CUDA_ARCH__)
  float result;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
  return result;
#else
  return a > b || a != a ? a : b;
#endif
}

// e^x to 2 ulp or so for |x| <= 87; held at e^-87 and e^88 beyond; NaN stays NaN.
INTERPKERN_PORTABLE float exponential(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  const float shifter = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float shifted = multiply_add(x, 1.44269504f, shifter);
  const float n = shifted - shifter;
  const float f = multiply_add(n, 1.42860677e-6f, multiply_add(n, -0.693148613f, x));  // ln 2 in two parts
  float p = 1.9875691500e-4f;
  p = multiply_add(p, f, 1.3981999507e-3f);
  p = multiply_add(p, f, 8.3334519073e-3f);
  p = multiply_add(p, f, 4.1665795894e-2f);
  p = multiply_add(p, f, 1.6666665459e-1f);
  p = multiply_add(p, f, 5.0000001201e-1f);
  p = multiply_add(p * f, f, f) + 1.0f;
  return p * as_float((as_bits(shifted) << 23) + 0x3f800000u);
}

// ln(1 + x) for x in [0, 1], relative error below 1e-6: 2 atanh(x / (2 + x)) as a series.
INTERPKERN_PORTABLE float log_of_one_plus(float x) {
  const float w = x / (x + 2.0f), square = w * w;
  float p = 1.0f / 13;
  p = multiply_add(p, square, 1.0f / 11);
  p = multiply_add(p, square, 1.0f / 9);
  p = multiply_add(p, square, 1.0f / 7);
  p = multiply_add(p, square, 1.0f / 5);
  p = multiply_add(p, square, 1.0f / 3);
  p = multiply_add(p, square, 1.0f);
  return (w + w) * p;
}

}  // namespace interpkern
