//! The Python package: `cargo xtask wheel` builds it, `cargo xtask python-tests` tests it, and
//! `cargo xtask python-bench` measures it.

mod environment;
mod suite;

use crate::command::{from_root, output_of, root, run as run_command};
use crate::{Result, flags, real_files};
use environment::{Environment, PACKAGE};

pub(crate) use environment::SITE;

/// The oldest Python that the package is for: its minor version.
const OLDEST_MINOR: u32 = 11;

pub(crate) fn wheel(flags: &flags::Wheel) -> Result<()> {
    let environment = Environment::new(None)?;
    let wheel = environment.build(&from_root(&flags.out), !flags.dev)?;
    println!("{}", wheel.display());
    Ok(())
}

pub(crate) fn tests(flags: &flags::PythonTests) -> Result<()> {
    if let Err(why) = newer_python() {
        println!("not run: {why}");
        return Ok(());
    }
    let environment = match Environment::new(flags.python.as_deref()) {
        // A machine without a way to the package index can still check the rest.
        Err(error) if flags.suite == flags::Suite::Core => {
            println!("not run: {error}");
            return Ok(());
        }
        environment => environment?,
    };
    environment.install(flags.suite.packages())?;
    let site = environment.site(flags.release)?;
    flags.suite.run(&environment, &site)
}

pub(crate) fn bench(flags: &flags::PythonBench) -> Result<()> {
    let environment = Environment::new(flags.python.as_deref())?;
    environment.install(&["torch", "transformers"])?;
    let package = root().join(PACKAGE);
    let mut script = environment.command();
    script.env("PYTHONPATH", environment.site(true)?);
    match flags.what {
        flags::PythonWork::Objects => script.arg(package.join("benches/objects.py")),
        flags::PythonWork::Floor => script
            .arg(package.join("benches/objects.py"))
            .arg("--floor"),
        flags::PythonWork::Service => script
            .arg(package.join("benches/service.py"))
            .arg(real_files::minilm()?)
            .env("HF_HUB_OFFLINE", "1"),
    };
    run_command(&mut script)
}

/// Builds the package, optimised, into [`SITE`].
pub(crate) fn build_optimised() -> Result<()> {
    Environment::new(None)?.site(true).map(drop)
}

/// Python 3.11 or newer, or why there is none.
fn newer_python() -> std::result::Result<(), String> {
    let version = output_of(
        "python3",
        &["-c", "import sys; print(sys.version_info.minor)"],
    );
    let version = version.ok_or("no python3")?;
    match version.trim().parse::<u32>() {
        Ok(minor) if minor >= OLDEST_MINOR => Ok(()),
        _ => Err(format!(
            "python3 is 3.{}, not 3.{OLDEST_MINOR}",
            version.trim()
        )),
    }
}
