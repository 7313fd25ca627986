// Threads that work while the caller's thread listens for Ctrl-C.
#pragma once

#include <functional>

namespace interpkern {

// Runs work(0) .. work(count - 1), each on a thread of its own, and calls poll() on this thread every 50 ms until they
// are done. When poll throws, calls stop(), waits for the threads, and throws on; so it does with what work throws.
void run_workers(int count, const std::function<void(int)>& work, const std::function<void()>& poll,
                 const std::function<void()>& stop);

}  // namespace interpkern
