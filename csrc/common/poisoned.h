// Memory for the emulation of a GPU's blocks.
#pragma once

#include <stdint.h>

#include <cmath>
#include <vector>

#include "common/portable.h"

namespace interpkern {

// Memory whose rows begin where quads may; NaN wherever nothing has been written.
class Poisoned {
 public:
  explicit Poisoned(int64_t floats) : quads_((floats + 3) / 4, Quad{{NAN, NAN, NAN, NAN}}) {}
  float* data() { return reinterpret_cast<float*>(quads_.data()); }

  template <class T>
  T* as() {
    return reinterpret_cast<T*>(quads_.data());
  }

 private:
  std::vector<Quad> quads_;
};

}  // namespace interpkern
