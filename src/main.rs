//! The command `normative`.

use normative::op::Registry;

/// Keeps freed memory: networks allocate and free the same large buffers over and over, which the system's
/// allocator returns to the kernel each time (up to five times slower above 32 MB).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    std::process::exit(normative::cli::main_with(Registry::builtin()));
}
