//! `cargo xtask peers`: the loaders that others measure themselves by, pinned, under target/.

use std::path::PathBuf;
use std::process::Command;

use crate::Result;
use crate::command::{root, run as run_command};

/// The interpreter of the peers' virtual environment.
pub(crate) fn python() -> PathBuf {
    let program = match cfg!(windows) {
        true => "Scripts/python.exe",
        false => "bin/python",
    };
    root().join("target/peers").join(program)
}

pub(crate) fn run() -> Result<()> {
    let python = python();
    if !python.exists() {
        let folder = root().join("target/peers");
        run_command(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    }
    let requirements = root().join("benches/peers/requirements.txt");
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--requirement"]);
    run_command(install.arg(requirements))?;
    println!("{} has them", python.display());
    Ok(())
}
