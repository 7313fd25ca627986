#!/usr/bin/env bash
# Builds roofline_memorise.cpp as CMakeLists.txt builds the kernel for AVX-512, and prints its JSON:
#   benchmarks/roofline_memorise.sh > benchmarks/results/roofline_memorise.json
set -euo pipefail
cd "$(dirname "$0")/.."

program=$(mktemp)
trap 'rm -f "$program"' EXIT
"${CXX:-c++}" -std=c++20 -O3 -mavx512f -mavx512dq -mavx512bw -mavx512vl -mavx2 -mfma -mprefer-vector-width=512 \
  -ffp-contract=fast -fno-math-errno -w -DINTERPKERN_ISA=avx512 -Icsrc -Icsrc/memorise \
  benchmarks/roofline_memorise.cpp csrc/common/roof_simd.cpp -o "$program"
"$program"
