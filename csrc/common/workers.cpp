#include "common/workers.h"

#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif

namespace interpkern {
namespace {

struct Finish {
  std::mutex mutex;
  std::condition_variable changed;
  int running = 0;
  std::exception_ptr failure;

  void fail(std::exception_ptr with) {
    const std::lock_guard lock(mutex);
    if (!failure) failure = with;
  }
  void leave() {
    const std::lock_guard lock(mutex);
    --running;
    changed.notify_all();
  }
  bool wait_for_all() {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, std::chrono::milliseconds(50), [&] { return running == 0; });
  }
};

// Where there is a thread for every processor, moves the newest to one of its own. The scheduler would count the caller
// as busy, though it is about to wait, and have two threads share a processor for milliseconds.
void spread(std::vector<std::thread>& threads, int count) {
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) != count) return;
  int processor = sched_getcpu();
  for (size_t behind = 0; behind < threads.size();)
    behind += CPU_ISSET(processor = (processor + 1) % CPU_SETSIZE, &allowed) ? 1 : 0;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(processor, &one);
  const auto thread = threads.back().native_handle();
  pthread_setaffinity_np(thread, sizeof one, &one);
  pthread_setaffinity_np(thread, sizeof allowed, &allowed);
#else
  (void)threads, (void)count;
#endif
}

}  // namespace

void run_workers(int count, const std::function<void(int)>& work, const std::function<void()>& poll,
                 const std::function<void()>& stop) {
  Finish finish;
  finish.running = count;
  const auto body = [&](int index) {
    try {
      work(index);
    } catch (...) {
      finish.fail(std::current_exception());
      stop();
    }
    finish.leave();
  };
  std::vector<std::thread> threads;
  try {
    for (int index = 0; index < count; ++index) {
      threads.emplace_back(body, index);
      spread(threads, count);
    }
  } catch (...) {
    finish.fail(std::current_exception());
    stop();
    for (int missing = int(threads.size()); missing < count; ++missing) finish.leave();
  }
  bool polling = true;
  while (!finish.wait_for_all()) {
    if (!polling) continue;
    try {
      poll();
    } catch (...) {
      finish.fail(std::current_exception());
      polling = false;
      stop();
    }
  }
  for (std::thread& thread : threads) thread.join();
  if (finish.failure) std::rethrow_exception(finish.failure);
}

}  // namespace interpkern
