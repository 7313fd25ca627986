// Functions of vectors that the loss is made of.
#pragma once

#include "common/simd.h"

namespace interpkern::INTERPKERN_ISA {

INTERPKERN_INLINE Vec as_float(Int bits) {
  return (Vec)bits;
}
INTERPKERN_INLINE Int as_int(Vec x) {
  return (Int)x;
}

// e^x to 1 ulp or so for |x| <= 87; held at e^-87 and e^88 beyond; NaN stays NaN.
INTERPKERN_INLINE Vec exp(Vec x) {
  x = max(broadcast(-87.0f), min(broadcast(88.0f), x));
  const Vec shifter = broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Vec shifted = fma(x, broadcast(1.44269504f), shifter);
  const Vec n = shifted - shifter;
  const Vec f = fma(n, broadcast(-0.693147182f), x);
  Vec p = broadcast(1.9875691500e-4f);
  p = fma(p, f, broadcast(1.3981999507e-3f));
  p = fma(p, f, broadcast(8.3334519073e-3f));
  p = fma(p, f, broadcast(4.1665795894e-2f));
  p = fma(p, f, broadcast(1.6666665459e-1f));
  p = fma(p, f, broadcast(5.0000001201e-1f));
  p = fma(p * f, f, f) + broadcast(1.0f);
  return as_float(as_int(p) + (as_int(shifted) << 23));
}

// ln(1 + x) for x in [0, 1], relative error below 1e-6: 2 atanh(x / (2 + x)) as a series.
INTERPKERN_INLINE Vec log1p(Vec x) {
  const Vec w = x / (x + broadcast(2.0f)), square = w * w;
  Vec p = broadcast(1.0f / 13);
  p = fma(p, square, broadcast(1.0f / 11));
  p = fma(p, square, broadcast(1.0f / 9));
  p = fma(p, square, broadcast(1.0f / 7));
  p = fma(p, square, broadcast(1.0f / 5));
  p = fma(p, square, broadcast(1.0f / 3));
  p = fma(p, square, broadcast(1.0f));
  return (w + w) * p;
}

// Sum with the rounding errors carried along (Kahan).
struct Sum {
  Vec total{}, error{};
  inline __attribute__((always_inline)) void add(Vec x) {
    const Vec y = x - error, t = total + y;
    error = (t - total) - y;
    total = t;
  }
};

}  // namespace interpkern::INTERPKERN_ISA
