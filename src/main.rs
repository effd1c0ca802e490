//! The command `normative`.

use normative::op::Registry;

/// Keeps freed memory: networks allocate and free the same large buffers over and over, which the system's
/// allocator returns to the kernel each time (up to five times slower above 32 MB).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay`, which the bindings leave out: after how many milliseconds freed memory goes back to the system.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

fn main() {
    // After the default, 10 ms, pages are cleared anew between two uses of one buffer: a sixth of the time of `verify`.
    // A second is longer than a network takes, and short enough that what one command frees is there for the next request.
    // SAFETY: the allocator's options are integers of its own that may be set at any time.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 1000) };
    std::process::exit(normative::cli::main_with(Registry::builtin()));
}
