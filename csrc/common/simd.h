// One vector type per instruction set. A file that includes this is compiled once per ISA, with INTERPKERN_ISA naming
// the namespace its code lives in; it must use no inline function of the standard library, because the linker could
// keep the AVX-512 copy for everybody.
#pragma once

#include <stdint.h>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace interpkern::INTERPKERN_ISA {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

// Vector registers an inner loop may count on.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int REGISTERS = 32;
#else
constexpr int REGISTERS = 16;
#endif

typedef float Vec __attribute__((vector_size(LANES * 4)));
typedef int32_t Int __attribute__((vector_size(LANES * 4)));
typedef int16_t Short __attribute__((vector_size(LANES * 4)));
constexpr int SHORTS = 2 * LANES;

#if defined(__AVX512F__)
constexpr Int LANE_BIT = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
#elif defined(__AVX2__)
constexpr Int LANE_BIT = {1, 2, 4, 8, 16, 32, 64, 128};
#else
constexpr Int LANE_BIT = {1, 2, 4, 8};
#endif

#define INTERPKERN_INLINE static inline __attribute__((always_inline))

// Hides where a vector comes from, so that the compiler computes with it as written.
#if defined(__x86_64__)
#define INTERPKERN_OPAQUE(vector) asm volatile("" : "+v"(vector))
#elif defined(__aarch64__)
#define INTERPKERN_OPAQUE(vector) asm volatile("" : "+w"(vector))
#else
#define INTERPKERN_OPAQUE(vector) asm volatile("" : "+m"(vector))
#endif

// Keeps the compiler from taking an address apart into sums it then has no registers for.
#define INTERPKERN_OPAQUE_POINTER(pointer) asm volatile("" : "+r"(pointer))

INTERPKERN_INLINE Vec broadcast(float x) {
  return x - Vec{};
}

// A vector read once into a register, where the compiler would read it again at each use.
INTERPKERN_INLINE Vec load(const Vec& memory) {
  Vec x = memory;
  INTERPKERN_OPAQUE(x);
  return x;
}

INTERPKERN_INLINE Vec fma(Vec a, Vec b, Vec c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX2__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

// The larger of the two; b where either is NaN.
INTERPKERN_INLINE Vec max(Vec a, Vec b) {
#if defined(__AVX512F__)
  return _mm512_max_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_max_ps(a, b);
#elif defined(__SSE2__)
  return _mm_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}

// The smaller of the two; b where either is NaN.
INTERPKERN_INLINE Vec min(Vec a, Vec b) {
#if defined(__AVX512F__)
  return _mm512_min_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_min_ps(a, b);
#elif defined(__SSE2__)
  return _mm_min_ps(a, b);
#else
  return a < b ? a : b;
#endif
}

INTERPKERN_INLINE Vec sqrt(Vec x) {
#if defined(__AVX512F__)
  return _mm512_sqrt_ps(x);
#elif defined(__AVX2__)
  return _mm256_sqrt_ps(x);
#elif defined(__SSE2__)
  return _mm_sqrt_ps(x);
#else
  Vec root;
  for (int lane = 0; lane < LANES; ++lane) root[lane] = __builtin_sqrtf(x[lane]);
  return root;
#endif
}

INTERPKERN_INLINE Vec abs(Vec x) {
  return (Vec)((Int)x & 0x7fffffff);
}

// The nearest integers to numbers below 2^22, the even one in the middle.
INTERPKERN_INLINE Vec nearest(Vec x) {
  const Vec magic = broadcast(0x1.8p23f);
  return x + magic - magic;
}

INTERPKERN_INLINE Int max(Int a, Int b) {
#if defined(__AVX512F__)
  return (Int)_mm512_max_epi32((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (Int)_mm256_max_epi32((__m256i)a, (__m256i)b);
#else
  return a > b ? a : b;
#endif
}

INTERPKERN_INLINE Int abs(Int x) {
#if defined(__AVX512F__)
  return (Int)_mm512_abs_epi32((__m512i)x);
#elif defined(__AVX2__)
  return (Int)_mm256_abs_epi32((__m256i)x);
#else
  return max(x, -x);
#endif
}

INTERPKERN_INLINE Short max(Short a, Short b) {
#if defined(__AVX512F__)
  return (Short)_mm512_max_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (Short)_mm256_max_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return (Short)_mm_max_epi16((__m128i)a, (__m128i)b);
#else
  return a > b ? a : b;
#endif
}

INTERPKERN_INLINE Short abs(Short x) {
#if defined(__AVX512F__)
  return (Short)_mm512_abs_epi16((__m512i)x);
#elif defined(__AVX2__)
  return (Short)_mm256_abs_epi16((__m256i)x);
#else
  return max(x, -x);
#endif
}

// Whether a >= b in any lane.
INTERPKERN_INLINE bool any_at_least(Vec a, Vec b) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ)) != 0;
#else
  const Int at_least = a >= b;
  bool any = false;
  for (int lane = 0; lane < LANES; ++lane) any |= at_least[lane] != 0;
  return any;
#endif
}

// A bit for every lane in which a >= b.
INTERPKERN_INLINE uint32_t lanes_at_least(Short a, Short b) {
#if defined(__AVX512F__)
  return _mm512_cmpge_epi16_mask((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  const __m256i less = _mm256_packs_epi16(_mm256_cmpgt_epi16((__m256i)b, (__m256i)a), _mm256_set1_epi16(-1));
  const uint32_t bytes = ~uint32_t(_mm256_movemask_epi8(less));
  return (bytes & 0xff) | (bytes >> 8 & 0xff00);
#else
  uint32_t lanes = 0;
  for (int lane = 0; lane < SHORTS; ++lane) lanes |= uint32_t(a[lane] >= b[lane]) << lane;
  return lanes;
#endif
}

INTERPKERN_INLINE float largest_lane(Vec x) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps(x);
#else
  float largest = x[0];
  for (int lane = 1; lane < LANES; ++lane) largest = x[lane] > largest ? x[lane] : largest;
  return largest;
#endif
}

// The lanes added in one order for every width: halves onto each other until one is left.
INTERPKERN_INLINE float sum_lanes(Vec x) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps(x);
#elif defined(__AVX2__)
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
#else
  float lane[LANES];
  __builtin_memcpy(lane, &x, sizeof x);
  for (int half = LANES / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
  return lane[0];
#endif
}

// LANES pairs of 16-bit integers, the first of each in the low half.
INTERPKERN_INLINE Int read_pairs(const int16_t* memory) {
  Int pairs;
  __builtin_memcpy(&pairs, memory, sizeof pairs);
  return pairs;
}

// sum + for every lane the products of its pairs' halves.
INTERPKERN_INLINE Int add_pair_products(Int sum, Int a, Int b) {
#if defined(__AVX512VNNI__)
  return (Int)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return sum + (Int)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return sum + (Int)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
  return sum + ((a << 16) >> 16) * ((b << 16) >> 16) + (a >> 16) * (b >> 16);
#endif
}

// Integers of two vectors side by side, a's in the low half. Each 16 bytes of the result are the first half, or the
// second one, of the same 16 bytes of a and b.
INTERPKERN_INLINE Int interleave_low(Short a, Short b) {
#if defined(__AVX512F__)
  return (Int)_mm512_unpacklo_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (Int)_mm256_unpacklo_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return (Int)_mm_unpacklo_epi16((__m128i)a, (__m128i)b);
#else
  return (Int)(Short){a[0], b[0], a[1], b[1], a[2], b[2], a[3], b[3]};
#endif
}
INTERPKERN_INLINE Int interleave_high(Short a, Short b) {
#if defined(__AVX512F__)
  return (Int)_mm512_unpackhi_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (Int)_mm256_unpackhi_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return (Int)_mm_unpackhi_epi16((__m128i)a, (__m128i)b);
#else
  return (Int)(Short){a[4], b[4], a[5], b[5], a[6], b[6], a[7], b[7]};
#endif
}

// What interleave_low and interleave_high took apart, as 16-bit integers, or the nearest there are.
INTERPKERN_INLINE Short narrow(Int low, Int high) {
#if defined(__AVX512F__)
  return (Short)_mm512_packs_epi32((__m512i)low, (__m512i)high);
#elif defined(__AVX2__)
  return (Short)_mm256_packs_epi32((__m256i)low, (__m256i)high);
#elif defined(__SSE2__)
  return (Short)_mm_packs_epi32((__m128i)low, (__m128i)high);
#else
  Short x;
  for (int lane = 0; lane < SHORTS; ++lane) {
    const int32_t wide = lane < LANES ? low[lane] : high[lane - LANES];
    x[lane] = int16_t(wide < -32768 ? -32768 : wide > 32767 ? 32767 : wide);
  }
  return x;
#endif
}

// a * b / 2^15, rounded.
INTERPKERN_INLINE Short multiply_rounded(Short a, Short b) {
#if defined(__AVX512F__)
  return (Short)_mm512_mulhrs_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (Short)_mm256_mulhrs_epi16((__m256i)a, (__m256i)b);
#else
  Short x;
  for (int lane = 0; lane < SHORTS; ++lane) x[lane] = int16_t((int32_t(a[lane]) * b[lane] + (1 << 14)) >> 15);
  return x;
#endif
}

INTERPKERN_INLINE Vec to_float(Int x) {
#if defined(__AVX512F__)
  return _mm512_cvtepi32_ps((__m512i)x);
#elif defined(__AVX2__)
  return _mm256_cvtepi32_ps((__m256i)x);
#else
  return __builtin_convertvector(x, Vec);
#endif
}

INTERPKERN_INLINE int16_t largest_lane(Short x) {
  return int16_t(largest_lane(max(to_float((Int)x >> 16), to_float(((Int)x << 16) >> 16))));
}

INTERPKERN_INLINE Vec read(const float* memory) {
  Vec x;
  __builtin_memcpy(&x, memory, sizeof x);
  return x;
}

INTERPKERN_INLINE void write(float* memory, Vec x) {
  __builtin_memcpy(memory, &x, sizeof x);
}

INTERPKERN_INLINE Short read_shorts(const int16_t* memory) {
  Short x;
  __builtin_memcpy(&x, memory, sizeof x);
  return x;
}

INTERPKERN_INLINE void write_shorts(int16_t* memory, Short x) {
  __builtin_memcpy(memory, &x, sizeof x);
}

// LANES floats rounded to 16-bit integers, or to the nearest there is.
INTERPKERN_INLINE void write_rounded(int16_t* memory, Vec x) {
  x = max(broadcast(-32768.0f), min(broadcast(32767.0f), x));
#if defined(__AVX512F__)
  _mm256_storeu_si256((__m256i*)memory, _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(x)));
#elif defined(__AVX2__)
  const __m256i rounded = _mm256_cvtps_epi32(x);
  _mm_storeu_si128((__m128i*)memory,
                   _mm_packs_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1)));
#else
  for (int lane = 0; lane < LANES; ++lane) memory[lane] = int16_t(__builtin_rintf(x[lane]));
#endif
}

// What add_where_greater multiplies by; opaque, so that the compiler keeps the multiplication.
struct Ones {
  Vec value;
};
INTERPKERN_INLINE Ones make_ones() {
  Vec ones = broadcast(1.0f);
  INTERPKERN_OPAQUE(ones);
  return {ones};
}

// Where a > b, adds x to both sums. A core has as many pipes for fma as for add, and the comparison uses one of the
// former: `as_fma` lets every other addition to `second` go through an fma by one, which rounds the same.
INTERPKERN_INLINE void add_where_greater(Vec a, Vec b, Vec x, Vec& first, Vec& second, const Ones& ones, bool as_fma) {
#if defined(__AVX512F__)
  const __mmask16 greater = _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
  first = _mm512_mask_add_ps(first, greater, first, x);
  second =
      as_fma ? _mm512_mask3_fmadd_ps(x, ones.value, second, greater) : _mm512_mask_add_ps(second, greater, second, x);
#else
  const Vec kept = (Vec)((a > b) & (Int)x);
  first += kept;
  second = as_fma ? fma(kept, ones.value, second) : second + kept;
#endif
}

}  // namespace interpkern::INTERPKERN_ISA
