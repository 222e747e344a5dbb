//! The binary: arguments, then the verb.

use std::process::ExitCode;

use clap::Parser;
use ish::cli::Cli;
use mimalloc::MiMalloc;

/// Small short-lived pieces are most of what a request allocates; the system's allocator takes twice as long for them.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("ish: the runtime cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(cli.run());
    // Whatever a verb left on blocking threads must not hold the process.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ish: {error:#}");
            ExitCode::FAILURE
        }
    }
}
