//! argv to exit code; everything else is in the library.

use std::process::ExitCode;

/// Batches are allocated and freed all day, from several threads: mimalloc does that faster than the system's
/// allocator, and much faster than musl's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    forebay::sys::return_freed_memory_soon();
    forebay::cli::main()
}
