// Cycles of each pass of `memorise` for one group of models, beside the fewest its arithmetic can take on a core that
// starts one fma-like and one add-like 512-bit instruction a cycle (Zen 4). Cycles are those of the multiply-add loop,
// which does one multiply-add a cycle. roofline_memorise.sh builds and runs this.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "memorise/passes.h"

namespace interpkern::INTERPKERN_ISA {
int64_t fma_loop(int64_t iterations);
}
using namespace interpkern;
using namespace interpkern::INTERPKERN_ISA;

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <class Work>
double shortest(const Work& work) {
  double best = 1e30;
  for (int sample = 0; sample < 200; ++sample) {
    const double begin = now();
    work();
    asm volatile("" : : : "memory");
    best = std::min(best, now() - begin);
  }
  return best;
}

// An array of random numbers in [0.25, 0.75), each array at another offset from a page so that none alias.
Vec* array(int64_t size) {
  static int64_t offset = 0;
  offset += 5;
  auto* vectors = static_cast<Vec*>(std::aligned_alloc(4096, (size + offset + 64) / 64 * 4096)) + offset;
  float* numbers = reinterpret_cast<float*>(vectors);
  for (int64_t i = 0; i < size * LANES; ++i) numbers[i] = 0.25f + 0.5f * float(std::rand()) / float(RAND_MAX);
  return vectors;
}

Group random_group(int m, int width, int hidden) {
  Group g{};
  g.rows = g.columns = m, g.width = width, g.hidden = hidden;
  g.row_stride = g.column_stride = m | 1, g.width_stride = width | 1;
  const int64_t sizes[FIELDS] = {m * (width | 1), m * (width | 1), hidden * (width | 1), hidden, hidden, 1};
  for (int field = 0; field < FIELDS; ++field)
    for (Vec** parts : {g.weights, g.first, g.second, g.gradient}) parts[field] = array(sizes[field]);
  for (Vec** part : {&g.A, &g.N, &g.SA, &g.SB}) *part = array(int64_t(hidden) * (m | 1));
  g.active = array(hidden), g.offset = array(m), g.Z = array(int64_t(m) * m);
  g.facts = reinterpret_cast<uint32_t*>(array(int64_t(m) * m));
  return g;
}

void measure(int m, int width, int hidden, double cycle, bool last) {
  const Group g = random_group(m, width, hidden);
  Update still{};
  still.decay = still.eps = broadcast(1.0f);
  const double cells = double(m) * m * hidden, products = double(m) * width * hidden, facts = double(m) * m;
  const double parameters = hidden * (width + 2.0) + 1;
  struct Pass {
    const char* name;
    double bound, seconds;
  };
  const Pass passes[] = {
      {"hidden", 2 * products, shortest([&] {
         hidden_pass<false>(g, g.weights[E1], m, g.A, g.row_stride);
         hidden_pass<true>(g, g.weights[E2], m, g.N, g.column_stride);
       })},
      {"logits", cells, shortest([&] { logits_pass(g); })},
      {"error", 12 * facts, shortest([&] { error_pass(g); })},
      {"active", 1.5 * cells, (logits_pass(g), error_pass(g), shortest([&] { active_pass(g); }))},
      {"weight", 2 * products, shortest([&] { weight_pass(g); })},
      {"adam", 16 * parameters, shortest([&] {
         for (int field = W; field < FIELDS; ++field)
           adam_pass(g, field, field == W ? hidden * g.width_stride : field == OUTPUT_BIAS ? 1 : hidden, still);
       })},
  };
  double total = 0;
  std::printf(" {\"shape\": [%d, %d, %d], \"cycles\": {", m, width, hidden);
  for (const Pass& pass : passes) {
    total += pass.seconds / cycle;
    std::printf("\"%s\": [%.0f, %.0f], ", pass.name, pass.seconds / cycle, pass.bound);
  }
  const double flops = 8 * products + 9 * cells + 10 * facts + 12 * parameters;
  std::printf("\"sum\": %.0f}, \"share_of_fma_peak\": %.3f}%s\n", total, flops / 2 / total, last ? "" : ",");
}

}  // namespace

int main() {
  const double loop = shortest([] { fma_loop(20000); });
  const double cycle = loop / (double(fma_loop(1)) / 2 / LANES * 20000);
  std::printf("{\"what\": \"pass: [cycles measured, fewest by the pipes]\", \"lanes\": %d, \"rows\": [\n", LANES);
  measure(16, 16, 16, cycle, false);
  measure(32, 16, 32, cycle, false);
  measure(32, 32, 32, cycle, false);
  measure(64, 48, 48, cycle, true);
  std::printf("]}\n");
}
