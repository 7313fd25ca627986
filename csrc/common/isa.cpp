#include "common/isa.h"

#include <stdexcept>

namespace interpkern {

bool is_supported(Isa isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (isa == Isa::avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (isa == Isa::avx512)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
#endif
  return isa == Isa::baseline;
}

Isa isa_called(const std::string& name) {
  for (const IsaName& known : ISAS)
    if (name == known.name && is_supported(known.isa)) return known.isa;
  throw std::invalid_argument("isa: this machine cannot run '" + name + "'");
}

}  // namespace interpkern
