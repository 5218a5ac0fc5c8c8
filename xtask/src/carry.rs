//! `cargo xtask bench --device cuda`: the bench of GPUs as a folder that other machines can run.

use std::fs;
use std::process::Command;

use crate::command::{cargo, root, run as run_command};
use crate::{Result, flags, programs};

const PROGRAM: &str = "bench-cuda";
/// What goes with the program, and where it is in the repository.
const BESIDE: [(&str, &str); 4] = [
    ("README.md", "benches/cuda/README.md"),
    ("engines_cuda.py", "benches/peers/engines_cuda.py"),
    ("measured.py", "benches/peers/measured.py"),
    ("requirements.txt", "benches/peers/requirements-cuda.txt"),
];

/// Builds the folder, and runs the program if this machine has a GPU.
pub(crate) fn run(flags: &flags::Bench) -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--quiet", "--locked", "--profile=carried"]);
    run_command(build.arg("--package=tensorlift-bench-cuda"))?;
    let folder = root().join("target/carry/cuda");
    fs::create_dir_all(&folder)?;
    let program = folder.join(PROGRAM);
    fs::copy(programs::target().join("carried").join(PROGRAM), &program)?;
    for (name, from) in BESIDE {
        fs::copy(root().join(from), folder.join(name))?;
    }
    println!("{} can be carried", folder.display());

    let has_gpu = Command::new(&program).arg("--gpus").output()?;
    if !has_gpu.status.success() {
        let why = String::from_utf8_lossy(&has_gpu.stderr);
        println!("not run here: {}", why.trim());
        return Ok(());
    }
    let mut bench = Command::new(&program);
    bench.current_dir(&folder).arg("--out");
    bench.arg(root().join("benches/results").join(match &flags.save {
        Some(name) => name,
        None => "local/cuda",
    }));
    if let Some(filter) = &flags.filter {
        bench.args(["--filter", filter]);
    }
    for engine in &flags.engine {
        bench.args(["--engine", engine]);
    }
    if let Some(rounds) = flags.rounds {
        bench.args(["--rounds", &rounds.to_string()]);
    }
    for (flag, set) in [("--smoke", flags.smoke), ("--list", flags.list)] {
        if set {
            bench.arg(flag);
        }
    }
    run_command(&mut bench)
}
