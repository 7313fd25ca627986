#include "common/workers.h"

#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

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
    for (int index = 0; index < count; ++index) threads.emplace_back(body, index);
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
