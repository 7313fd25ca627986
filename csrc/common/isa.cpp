#include "common/isa.h"

#include <stdexcept>

#if defined(INTERPKERN_HAS_AMX)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace interpkern {
namespace {

#if defined(INTERPKERN_HAS_AMX)
// Whether there are tiles of bytes, and the kernel lets this process use them, which it asks to be asked for.
bool has_tiles() {
  constexpr unsigned AMX_TILE = 1u << 24, AMX_INT8 = 1u << 25;
  constexpr long REQUEST_PERMISSION = 0x1023, TILE_DATA = 18;
  unsigned eax, ebx, ecx, edx;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || !(edx & AMX_TILE) || !(edx & AMX_INT8)) return false;
  return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}
#endif

}  // namespace

bool is_supported(Isa isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (isa == Isa::avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (isa == Isa::avx512)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
#if defined(INTERPKERN_HAS_AMX)
  static const bool tiles = has_tiles();
  if (isa == Isa::amx) return tiles && is_supported(Isa::avx512);
#endif
#endif
  return isa == Isa::baseline;
}

Isa isa_called(const std::string& name) {
  for (const IsaName& known : ISAS)
    if (name == known.name && is_supported(known.isa)) return known.isa;
  throw std::invalid_argument("isa: this machine cannot run '" + name + "'");
}

}  // namespace interpkern
