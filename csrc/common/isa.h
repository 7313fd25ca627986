// The instruction sets the CPU kernels are compiled for, and which of them this machine has. `avx512` includes VNNI, as
// every such processor does but the first (Skylake-X), which takes avx2; `amx` is avx512 with matrix units for bytes.
#pragma once

#include <string>

#if defined(INTERPKERN_HAS_AMX)
#define INTERPKERN_FOR_EACH_ISA(use) use(baseline) use(avx2) use(avx512) use(amx)
#elif defined(__x86_64__)
#define INTERPKERN_FOR_EACH_ISA(use) use(baseline) use(avx2) use(avx512)
#else
#define INTERPKERN_FOR_EACH_ISA(use) use(baseline)
#endif

namespace interpkern {

enum class Isa {
#define INTERPKERN_ENUMERATOR(isa) isa,
  INTERPKERN_FOR_EACH_ISA(INTERPKERN_ENUMERATOR)
#undef INTERPKERN_ENUMERATOR
};

// Narrowest first.
#define INTERPKERN_ENTRY(isa) {Isa::isa, #isa},
struct IsaName {
  Isa isa;
  const char* name;
};
constexpr IsaName ISAS[] = {INTERPKERN_FOR_EACH_ISA(INTERPKERN_ENTRY)};
#undef INTERPKERN_ENTRY

bool is_supported(Isa isa);

// Throws std::invalid_argument for a name that is unknown or that this machine cannot run.
Isa isa_called(const std::string& name);

}  // namespace interpkern
