//! `cargo xtask check`: everything that must hold before a change lands.

mod features;
mod fuzz;
pub(crate) mod toolchain;
mod unsafe_code;

use std::process::{Command, Stdio};

use clap::ValueEnum;

use crate::command::{cargo, cargo_of, output_of, run as run_command};
use crate::{Result, flags, public_api};

/// Targets that LIMITS.md says compile but were not run.
const OTHER_TARGETS: [&str; 3] = [
    "x86_64-pc-windows-gnu",
    "aarch64-apple-darwin",
    "aarch64-unknown-linux-gnu",
];
/// Packages that Miri can interpret: no files mapped, no foreign functions.
const MIRI_PACKAGES: [&str; 2] = ["tensorlift-tensor-meta", "tensorlift-format-safetensors"];

/// The package with the system calls, and those that drive it. That of CUDA is not among them: the
/// double of the driver is a library that a sanitised program cannot load.
const SANITIZED_PACKAGES: [&str; 4] = [
    "tensorlift-storage",
    "tensorlift-device",
    "tensorlift-loader",
    "tensorlift",
];

/// A step, selectable by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    /// The source is formatted
    Fmt,
    /// No lint fires
    Clippy,
    /// The documentation builds without warnings
    Docs,
    /// `unsafe` is used only where it is permitted
    Unsafe,
    /// All tests pass
    Test,
    /// Every feature set of the published packages compiles
    Features,
    /// Public items of the libraries are those of the committed lists
    PublicApi,
    /// Dependencies come from the registry, under accepted licences, without doubles
    Deny,
    /// The workspace of the peers resolves to its lock file
    Peers,
    /// It compiles with the oldest supported Rust
    Oldest,
    /// It compiles for other systems
    Targets,
    /// What Miri can interpret has no undefined behaviour
    Miri,
    /// System calls and what drives them pass their tests under AddressSanitizer
    Sanitizer,
    /// The fuzz targets compile
    FuzzTargets,
    /// The fuzz targets build with a nightly toolchain and survive a few seconds
    Fuzz,
}

/// How a step ended, if it did not fail.
enum Outcome {
    Passed,
    NotRun(String),
}

pub(crate) fn run(flags: &flags::Check) -> Result<()> {
    let chosen = |step: &Step| {
        !flags.skip.contains(step) && (flags.only.is_empty() || flags.only.contains(step))
    };
    let mut lines = Vec::new();
    let mut failed = 0;
    for step in Step::value_variants().iter().filter(|step| chosen(step)) {
        let name = name(*step);
        println!("== {name}");
        let clock = std::time::Instant::now();
        let line = match step.run() {
            Ok(Outcome::Passed) => "passed".to_owned(),
            Ok(Outcome::NotRun(why)) => format!("not run: {why}"),
            Err(error) => {
                failed += 1;
                format!("FAILED: {error}")
            }
        };
        println!("{line}");
        let seconds = clock.elapsed().as_secs_f64();
        lines.push(format!("{name:<12} {seconds:>7.1} s  {line}"));
    }
    println!("\n{}", lines.join("\n"));
    match failed {
        0 => Ok(()),
        1 => Err("1 step failed".into()),
        _ => Err(format!("{failed} steps failed").into()),
    }
}

impl Step {
    fn run(self) -> Result<Outcome> {
        match self {
            Step::Fmt => passes(cargo().args(["fmt", "--all", "--", "--check"])),
            Step::Clippy => passes(cargo().args([
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "--deny=warnings",
            ])),
            Step::Docs => passes(
                cargo()
                    .args(["doc", "--workspace", "--no-deps"])
                    .env("RUSTDOCFLAGS", "--deny=warnings"),
            ),
            Step::Unsafe => unsafe_code::run(),
            Step::Test => passes(cargo().args(["test", "--workspace"])),
            Step::Features => features::run(),
            Step::Peers => passes(
                cargo()
                    .args([
                        "metadata",
                        "--quiet",
                        "--locked",
                        "--format-version=1",
                        "--manifest-path=benches/peers/Cargo.toml",
                    ])
                    .stdout(Stdio::null()),
            ),
            Step::PublicApi => public_api(),
            Step::Deny => deny(),
            Step::Oldest => oldest(),
            Step::Targets => targets(),
            Step::Miri => miri(),
            Step::Sanitizer => sanitizer(),
            Step::FuzzTargets => fuzz::check(),
            Step::Fuzz => fuzz::run(),
        }
    }
}

fn passes(command: &mut Command) -> Result<Outcome> {
    run_command(command)?;
    Ok(Outcome::Passed)
}

fn public_api() -> Result<Outcome> {
    if let Some(why) = public_api::unavailable() {
        return Ok(Outcome::NotRun(why.to_owned()));
    }
    public_api::run(false)?;
    Ok(Outcome::Passed)
}

fn deny() -> Result<Outcome> {
    if output_of("cargo", &["deny", "--version"]).is_none() {
        let why = "no cargo-deny: `cargo install cargo-deny`";
        return Ok(Outcome::NotRun(why.to_owned()));
    }
    // Advisories come from the network, so they are checked where the project is hosted.
    passes(cargo().args(["deny", "check", "bans", "licenses", "sources"]))
}

fn oldest() -> Result<Outcome> {
    // The manifest says "1.89"; rustup's name for it may carry a patch and a host.
    let version = env!("CARGO_PKG_RUST_VERSION");
    let Some(toolchain) = toolchain::installed(version) else {
        return Ok(Outcome::NotRun(format!("no {version} toolchain")));
    };
    passes(cargo_of(&toolchain).args([
        "check",
        "--workspace",
        "--locked",
        "--target-dir=target/oldest",
    ]))
}

fn targets() -> Result<Outcome> {
    let installed = toolchain::targets();
    let (here, absent): (Vec<&str>, Vec<&str>) = OTHER_TARGETS
        .into_iter()
        .partition(|target| installed.iter().any(|other| other == target));
    for target in &here {
        // Only what people install there; the double of the CUDA driver is for Linux.
        run_command(cargo().args(["check", "--package=tensorlift-cli", "--target", target]))?;
    }
    if here.is_empty() {
        let why = format!("none of {} is installed", absent.join(", "));
        return Ok(Outcome::NotRun(why));
    }
    println!("not installed, not checked: {}", absent.join(", "));
    Ok(Outcome::Passed)
}

fn miri() -> Result<Outcome> {
    if !toolchain::has_component("nightly", "miri") {
        return Ok(Outcome::NotRun("no nightly toolchain with Miri".to_owned()));
    }
    let packages = MIRI_PACKAGES.map(|package| format!("--package={package}"));
    passes(
        cargo_of("nightly")
            .args(["miri", "test", "--lib", "--target-dir=target/miri"])
            .args(packages),
    )
}

fn sanitizer() -> Result<Outcome> {
    let Some(toolchain) = toolchain::installed("nightly") else {
        return Ok(Outcome::NotRun("no nightly toolchain".to_owned()));
    };
    let Some(host) = toolchain::host(&toolchain).filter(|host| host.contains("linux")) else {
        return Ok(Outcome::NotRun("written for Linux".to_owned()));
    };
    let packages = SANITIZED_PACKAGES.map(|package| format!("--package={package}"));
    passes(
        cargo_of(&toolchain)
            // Documentation tests would be linked without the sanitizer.
            .args(["test", "--lib", "--tests", "--target-dir=target/sanitizer"])
            .args(packages)
            .args(["--target", &host])
            .env("RUSTFLAGS", "-Zsanitizer=address"),
    )
}

fn name(step: Step) -> String {
    let value = step.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}
