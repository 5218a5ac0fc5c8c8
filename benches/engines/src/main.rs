//! One measured process, for `cargo xtask bench`.

use std::process::ExitCode;

use tensorlift_bench_protocol::main_of;

fn main() -> ExitCode {
    main_of(tensorlift_bench_engines::run)
}
