// The scalar maths of `memorise`, shared by host and device: errors and losses of facts, Adam, its numbers at a step.
#pragma once

#include "common/portable.h"

namespace interpkern {

constexpr uint32_t SIGN = 0x80000000u;

// How far a logit is on the right side of 0; `fact` has SIGN set where the fact is 1.
INTERPKERN_PORTABLE float right_by(float z, uint32_t fact) {
  return as_float(as_bits(z) ^ (fact ^ SIGN));
}

// share (sigmoid(z) - fact). Its sign bit is the fact's, whatever z is, so that errors remember their facts.
INTERPKERN_PORTABLE float error_of(float z, uint32_t fact, float share) {
  const float size = share / (1.0f + exponential(right_by(z, fact)));
  return as_float((as_bits(size) & ~SIGN) | fact);
}

// Nats.
INTERPKERN_PORTABLE float loss_of(float z, uint32_t fact) {
  const float right = right_by(z, fact), size = right < 0.0f ? -right : right;
  const float linear = right > 0.0f ? 0.0f : -right;  // NaN stays NaN
  return linear + log_of_one_plus(exponential(-size));
}

// Whether a fact is right by more than the margin: z > margin for a 1, z <= -margin for a 0.
INTERPKERN_PORTABLE bool is_right(float z, uint32_t fact, float margin) {
  return fact ? z > margin : z <= -margin;
}

// beta^(2^i) for i = 0 .. POWERS - 1, enough for the steps that are allowed.
constexpr int POWERS = 28;

struct Betas {
  double squares1[POWERS], squares2[POWERS];
  float beta1, beta1_rest, beta2, beta2_rest, eps;
};

INTERPKERN_PORTABLE void set_betas(Betas& betas, double beta1, double beta2, double eps) {
  betas.beta1 = float(beta1), betas.beta1_rest = float(1 - beta1);
  betas.beta2 = float(beta2), betas.beta2_rest = float(1 - beta2);
  betas.eps = float(eps);
  for (int i = 0; i < POWERS; ++i) {
    betas.squares1[i] = beta1, betas.squares2[i] = beta2;
    beta1 *= beta1, beta2 *= beta2;
  }
}

// One update's numbers.
struct Rates {
  float rate, readout_rate;  // lr / (1 - beta1^t), and times readout_lr_scale
  float inverse_root;        // 1 / sqrt(1 - beta2^t)
  float decay;               // 1 - lr weight_decay
};

// Those of the update made after t updates: a function of t alone, so that a run can stop and go on anywhere.
INTERPKERN_PORTABLE Rates rates_after(int64_t t, const Betas& betas, double lr, double readout_lr_scale,
                                      double weight_decay) {
  double power1 = 1, power2 = 1;
  for (int i = 0; (t + 1) >> i != 0; ++i)
    if ((t + 1) >> i & 1) power1 *= betas.squares1[i], power2 *= betas.squares2[i];
  Rates rates;
  rates.rate = float(lr) / float(1 - power1);
  rates.readout_rate = float(readout_lr_scale * lr) / float(1 - power1);
  rates.inverse_root = 1.0f / sqrtf(float(1 - power2));
  rates.decay = float(1 - lr * weight_decay);
  return rates;
}

INTERPKERN_PORTABLE void adam(float& weight, float& first, float& second, float gradient, float rate, float decay,
                              float inverse_root, const Betas& betas) {
  const float m = multiply_add(betas.beta1, first, betas.beta1_rest * gradient);
  const float v = multiply_add(betas.beta2, second, betas.beta2_rest * gradient * gradient);
  first = m;
  second = v;
  weight = multiply_add(weight, decay, -(rate * m / multiply_add(sqrtf(v), inverse_root, betas.eps)));
}

}  // namespace interpkern
