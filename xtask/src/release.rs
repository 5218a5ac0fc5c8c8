//! `cargo xtask release --dry-run`: every published crate from its tarball alone.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::command::{cargo, root, run as run_command};
use crate::workspace::{self, Package};
use crate::{Result, flags, programs};

/// Files that every tarball must hold.
const REQUIRED: [&str; 3] = ["README.md", "LICENSE-MIT", "LICENSE-APACHE"];

pub(crate) fn run(flags: &flags::Release) -> Result<()> {
    if !flags.dry_run {
        return Err("publishing is left to `cargo publish --workspace`; use --dry-run".into());
    }
    let (published, private): (Vec<Package>, Vec<Package>) = workspace::packages()?
        .into_iter()
        .partition(Package::is_published);
    package(&private, flags.allow_dirty)?;

    let folder = root().join("target/release-check");
    if folder.exists() {
        // What was built there stays: only the sources are replaced.
        for package in &published {
            let _ = fs::remove_dir_all(folder.join(unpacked(package)));
        }
    }
    fs::create_dir_all(&folder)?;
    for package in &published {
        unpack(package, &folder)?;
        missing_files(package, &folder)?;
    }
    let profiles = profiles(&fs::read_to_string(root().join("Cargo.toml"))?);
    fs::write(folder.join("Cargo.toml"), manifest(&published) + &profiles)?;
    fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock"))?;
    // Their tests need unpublished crates; the examples of their documentation need none.
    let mut test = cargo();
    test.current_dir(&folder)
        // What others made of the dependencies is not built again.
        .env("CARGO_TARGET_DIR", programs::target())
        .args(["test", "--workspace", "--doc"]);
    run_command(&mut test)?;
    println!("{} crates can be published:", published.len());
    for package in &published {
        println!("  {} {}", package.name, package.version);
    }
    Ok(())
}

/// Makes the tarballs; dependencies among them are checked by cargo.
fn package(private: &[Package], allow_dirty: bool) -> Result<()> {
    let mut package = cargo();
    package.args(["package", "--workspace", "--no-verify", "--quiet"]);
    for unpublished in private {
        package.args(["--exclude", &unpublished.name]);
    }
    if allow_dirty {
        package.arg("--allow-dirty");
    }
    run_command(&mut package)
}

fn unpack(package: &Package, folder: &Path) -> Result<()> {
    let tarball = programs::target().join(format!("package/{}.crate", unpacked(package)));
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(tarball).arg("-C").arg(folder);
    run_command(&mut tar)
}

fn missing_files(package: &Package, folder: &Path) -> Result<()> {
    let inside = folder.join(unpacked(package));
    let missing: Vec<&str> = REQUIRED
        .into_iter()
        .filter(|name| !inside.join(name).is_file())
        .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(format!("{}: the tarball lacks {}", package.name, missing.join(", ")).into()),
    }
}

/// A workspace of the unpacked tarballs, each of which depends on the others there.
fn manifest(published: &[Package]) -> String {
    let mut text = String::from("[workspace]\nresolver = \"3\"\nmembers = [\n");
    for package in published {
        writeln!(text, "    \"{}\",", unpacked(package)).expect("writing to a String cannot fail");
    }
    text.push_str("]\n\n[patch.crates-io]\n");
    for package in published {
        let (name, path) = (&package.name, unpacked(package));
        writeln!(text, "{name} = {{ path = \"{path}\" }}")
            .expect("writing to a String cannot fail");
    }
    text
}

/// The profiles of a manifest, with which everything was built.
fn profiles(manifest: &str) -> String {
    let begins = |line: &&str| line.starts_with("[profile.");
    let lines = manifest.lines().skip_while(|line| !begins(line));
    lines.fold(String::new(), |text, line| text + "\n" + line) + "\n"
}

/// The folder that a tarball unpacks to, and its name without the extension.
fn unpacked(package: &Package) -> String {
    format!("{}-{}", package.name, package.version)
}
