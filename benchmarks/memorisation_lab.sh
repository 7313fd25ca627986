#!/usr/bin/env bash
# Every study that docs/labs/memorisation.md reports, in benchmarks/results/memorisation_lab; called again, it goes on.
set -euo pipefail
cd "$(dirname "$0")/results"
out=memorisation_lab
interpkern capacity --study growth --sizes 4,6,8,12,16,24,32,48,64 --seeds 32 --out $out
interpkern capacity --study growth --sizes 96 --seeds 8 --out $out
interpkern capacity --study growth --sizes 192 --seeds 4 --out $out
interpkern capacity --study map --sizes 32 --seeds 16 --out $out
interpkern capacity --study budget --sizes 32 --seeds 32 --out $out
interpkern capacity --study embeddings --sizes 32 --seeds 32 --out $out
interpkern capacity --study tables --sizes 32 --seeds 32 --out $out
interpkern capacity --study frozen --sizes 8,16 --seeds 32 --out $out
interpkern capacity --study points --sizes 16,32 --seeds 32 --out $out
interpkern capacity --study circuits --seeds 64 --out $out
interpkern capacity --study quantisation --seeds 16 --out $out
interpkern capacity --study constructions --seeds 8 --out $out
interpkern report $out
