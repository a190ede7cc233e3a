//! The program `whittle`.

use std::process::ExitCode;

/// glibc's own keeps most of what threads have freed: docs/decisions.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    whittle_cli::main()
}
