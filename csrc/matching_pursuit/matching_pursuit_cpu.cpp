// `matching_pursuit` on the CPU: the threads, what they share, and the choice of instruction set.
#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "common/memory.h"
#include "common/workers.h"
#include "matching_pursuit.h"
#include "matching_pursuit_simd.h"

namespace interpkern {

struct Queue {
  int64_t total, share;  // no thread takes more than its share at once
  std::atomic<int64_t> next{0};
  std::atomic<int64_t> done{0};
  std::atomic<bool> stop{false};
};

int64_t take(Queue& queue, int64_t most, int64_t& first) {
  if (most <= 0 || stopped(queue)) return 0;
  first = queue.next.fetch_add(std::min(most, queue.share), std::memory_order_relaxed);
  return std::clamp<int64_t>(queue.total - first, 0, std::min(most, queue.share));
}

void add_done(Queue& queue, int64_t count) {
  queue.done.fetch_add(count, std::memory_order_relaxed);
}

bool stopped(const Queue& queue) {
  return queue.stop.load(std::memory_order_relaxed);
}

namespace {

struct Kernels {
  int64_t (*pursuit_workspace_bytes)(const Pursuit&);
  int64_t (*changes_workspace_bytes)(const Pursuit&);
  void (*pursue)(const Pursuit&, Queue&, void*);
  void (*find_changes)(const Pursuit&, Queue&, void*);
  void (*tile_products)(const Pursuit&, Queue&, void*, const TileProducts&);
  void (*multiply_atoms)(const Atoms&, int64_t, bool, Queue&);
  void (*pack_panel)(const Atoms&, int64_t, int64_t);
  PanelLayout (*panel_layout)(int64_t);
};

// Tiles have room for vectors of 64 numbers: short ones are multiplied faster without, to the same bits.
constexpr int64_t SHORT = 16;

Kernels kernels_for(Isa isa, int64_t width) {
#if defined(INTERPKERN_HAS_AMX)
  if (isa == Isa::amx && width <= SHORT) isa = Isa::avx512;
#endif
  switch (isa) {
#define INTERPKERN_CASE(name)                                                                                   \
  case Isa::name:                                                                                               \
    return {name::pursuit_workspace_bytes, name::changes_workspace_bytes, name::pursue,     name::find_changes, \
            name::tile_products,           name::multiply_atoms,          name::pack_panel, name::panel_layout};
    INTERPKERN_FOR_EACH_ISA(INTERPKERN_CASE)
#undef INTERPKERN_CASE
  }
  std::abort();
}

constexpr double FEW = 1 << 26;  // multiply-adds, about a millisecond: not worth starting a thread

// Runs work(queue, workspace) on every thread, or on the caller's where it is little, until the queue is empty.
template <class Work>
void share(int64_t total, double multiply_adds, int threads, int64_t workspace_bytes, const Report& report,
           const Work& work) {
  if (total == 0) return report(0, 0);
  const int count = multiply_adds < FEW ? 1 : int(std::min<int64_t>(threads, total));
  Queue queue{total, (total + count - 1) / count};
  const auto run = [&](int) {
    const auto workspace = allocate(workspace_bytes);
    work(queue, workspace.get());
  };
  const auto poll = [&] { report(queue.done.load(std::memory_order_relaxed), total); };
  if (multiply_adds < FEW)
    run(0);
  else
    run_workers(count, run, poll, [&] { queue.stop = true; });
  poll();
}

void multiply_atoms(const Kernels& kernels, const Atoms& atoms, int64_t first, bool mirrored, int threads,
                    const Report& report) {
  if (!atoms.products) return;
  const double multiply_adds = double(atoms.count) * double(atoms.count - first) * double(atoms.width);
  share((atoms.count + GROUP - 1) / GROUP, multiply_adds, threads, 0, report,
        [&](Queue& queue, void*) { kernels.multiply_atoms(atoms, first, mirrored, queue); });
}

void pack_atoms(const Kernels& kernels, const Atoms& atoms, int64_t first) {
  for (int64_t panel = first / PANEL; panel * PANEL < atoms.count; ++panel) kernels.pack_panel(atoms, first, panel);
}

}  // namespace

PanelLayout panel_layout(int64_t width, Isa isa) {
  return kernels_for(isa, width).panel_layout(width);
}

void add_atoms_cpu(const Atoms& atoms, int64_t first, Isa isa, int threads, const Report& report) {
  const Kernels kernels = kernels_for(isa, atoms.width);
  pack_atoms(kernels, atoms, first);
  multiply_atoms(kernels, atoms, first, true, threads, report);
}

void expect_atoms_cpu(const Atoms& atoms, int64_t first, Isa isa, int threads, const Report& report) {
  multiply_atoms(kernels_for(isa, atoms.width), atoms, first, false, threads, report);
}

void admit_last_atom_cpu(const Atoms& atoms, Isa isa) {
  const int64_t last = atoms.count - 1;
  pack_atoms(kernels_for(isa, atoms.width), atoms, last);
  if (!atoms.products) return;
  constexpr int64_t AHEAD = 32;  // rows
  for (int64_t j = 0; j < last; ++j) {
    if (j + AHEAD < last) __builtin_prefetch(atoms.products + (j + AHEAD) * atoms.stride + last, 1);
    atoms.products[j * atoms.stride + last] = atoms.products[last * atoms.stride + j];
  }
}

void matching_pursuit_cpu(const Pursuit& pursuit, Isa isa, int threads, const Report& report) {
  const Kernels kernels = kernels_for(isa, pursuit.atoms.width);
  const Atoms& atoms = pursuit.atoms;
  const double picks = double(pursuit.picks), width = double(atoms.width);
  const double products = atoms.products ? width + picks * picks : picks * width;  // with each atom
  const double multiply_adds = double(pursuit.samples) * double(atoms.count) * products;
  share(pursuit.samples, multiply_adds, threads, kernels.pursuit_workspace_bytes(pursuit), report,
        [&](Queue& queue, void* workspace) { kernels.pursue(pursuit, queue, workspace); });
}

void tile_products_cpu(const Pursuit& pursuit, Isa isa, const TileProducts& out) {
  const Kernels kernels = kernels_for(isa, pursuit.atoms.width);
  const auto silent = [](int64_t, int64_t) {};
  share(pursuit.samples, 0, 1, kernels.pursuit_workspace_bytes(pursuit), silent,
        [&](Queue& queue, void* workspace) { kernels.tile_products(pursuit, queue, workspace, out); });
}

void path_changes_cpu(const Pursuit& pursuit, Isa isa, int threads, const Report& report) {
  const Kernels kernels = kernels_for(isa, pursuit.atoms.width);
  const double fresh = double(pursuit.atoms.count - pursuit.known), picks = double(pursuit.picks);
  const bool cheap = pursuit.method == Method::mp && pursuit.atoms.products;  // most need one dot an atom
  const double dots = cheap ? fresh : picks * (picks + fresh);
  const int64_t samples = pursuit.last - pursuit.first;
  const double multiply_adds = double(samples) * dots * double(pursuit.atoms.width);
  share(samples, multiply_adds, threads, kernels.changes_workspace_bytes(pursuit), report,
        [&](Queue& queue, void* workspace) { kernels.find_changes(pursuit, queue, workspace); });
}

}  // namespace interpkern
