use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use tensorlift::{Bytes, DirectStorage, Error, ErrorKind, os};

use crate::failure::Failure;
use crate::table::printable;

#[derive(Args)]
pub(crate) struct Doctor {
    /// A file or folder, whose file system is checked for direct reads
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Print one JSON object per line, one for each finding
    #[arg(long)]
    pub(crate) json: bool,
}

/// One property of the machine.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Finding {
    /// The property.
    what: &'static str,
    /// Whether it is as loads like it.
    ok: bool,
    /// What was found.
    found: String,
    /// What helps, where something does.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'static str>,
}

impl Finding {
    fn good(what: &'static str, found: impl Into<String>) -> Self {
        Self {
            what,
            ok: true,
            found: found.into(),
            remedy: None,
        }
    }

    fn lacking(what: &'static str, found: impl Into<String>, remedy: &'static str) -> Self {
        Self {
            what,
            ok: false,
            found: found.into(),
            remedy: Some(remedy),
        }
    }

    fn of<T, E: std::fmt::Display>(
        what: &'static str,
        result: Result<T, E>,
        show: impl FnOnce(T) -> String,
        remedy: &'static str,
    ) -> Self {
        match result {
            Ok(value) => Self::good(what, show(value)),
            Err(error) => Self::lacking(what, error.to_string(), remedy),
        }
    }
}

impl Doctor {
    pub(crate) fn run(&self, out: &mut impl Write) -> Result<(), Failure> {
        if let Err(error) = std::fs::metadata(&self.path) {
            let remedy = "name a file or a folder that is there";
            return Err(Error::new(ErrorKind::NotFound, error)
                .with_path(&self.path)
                .with_remedy(remedy)
                .into());
        }
        let mut findings = of_host(&self.path);
        findings.extend(cuda());
        if !self.json {
            return Ok(write_findings(out, &findings)?);
        }
        for finding in findings {
            serde_json::to_writer(&mut *out, &finding)?;
            writeln!(out)?;
        }
        Ok(())
    }
}

/// What the machine offers loads from a path to host memory.
pub(crate) fn of_host(path: &Path) -> Vec<Finding> {
    let mut findings = vec![cores(), memory()];
    #[cfg(target_os = "linux")]
    findings.push(page_size());
    findings.extend(huge_pages());
    match some_file(path) {
        Ok((path, file)) => findings.extend([page_cache(&file), direct(&path, file)]),
        Err(error) => findings.push(Finding::lacking(
            "files",
            format!("direct reads and the page cache are not checked: {error}"),
            "name a file of the disk in question",
        )),
    }
    findings.push(Finding::of(
        "io_uring",
        os::probe_uring(),
        |()| "available; used on request".into(),
        "not needed: direct reads by threads are as fast",
    ));
    findings.push(locked_memory());
    findings
}

/// A line for each finding.
pub(crate) fn write_findings(out: &mut dyn Write, findings: &[Finding]) -> std::io::Result<()> {
    for finding in findings {
        let mark = if finding.ok { "ok" } else { "--" };
        write!(out, "{mark}  {:<20} {}", finding.what, finding.found)?;
        match finding.remedy {
            Some(remedy) => writeln!(out, "; {remedy}")?,
            None => writeln!(out)?,
        }
    }
    Ok(())
}

fn cores() -> Finding {
    let cores = std::thread::available_parallelism().map(usize::from);
    let show = |cores| format!("{cores}");
    Finding::of(
        "cores",
        cores,
        show,
        "not needed: loads may start one thread too many",
    )
}

fn memory() -> Finding {
    match os::available_memory() {
        Some(bytes) => Finding::good("memory", format!("{} available", Bytes(bytes))),
        None => Finding::lacking(
            "memory",
            "this system does not report available memory",
            "set a limit for each load: --memory-bytes",
        ),
    }
}

#[cfg(target_os = "linux")]
fn page_size() -> Finding {
    let bytes = rustix::param::page_size();
    Finding::good("page size", format!("{bytes} bytes"))
}

fn huge_pages() -> Option<Finding> {
    let what = "huge pages";
    let text = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").ok()?;
    let mode = text.split(['[', ']']).nth(1)?.to_owned();
    Some(match mode.as_str() {
        "never" => Finding::lacking(
            what,
            mode,
            "allow them: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        ),
        _ => Finding::good(what, mode),
    })
}

/// A regular file at a path or in a folder.
fn some_file(path: &Path) -> std::io::Result<(PathBuf, File)> {
    if path.is_file() {
        return Ok((path.to_owned(), File::open(path)?));
    }
    let mut files = std::fs::read_dir(path)?.flatten().map(|entry| entry.path());
    match files.find(|path| path.is_file()) {
        Some(path) => File::open(&path).map(|file| (path, file)),
        None => {
            let found = format!("{} has no file to try", path.display());
            Err(std::io::Error::other(found))
        }
    }
}

fn direct(path: &Path, file: File) -> Finding {
    let asked = DirectStorage::probe(Arc::new(file));
    let show = |io: os::DirectIo| {
        format!(
            "{}: offsets to {} bytes, memory to {}",
            printable(&path.display().to_string()),
            io.offset,
            io.memory
        )
    };
    let remedy = "loads from there go through the page cache; another file system may be faster";
    Finding::of("direct reads", asked, show, remedy)
}

fn page_cache(file: &File) -> Finding {
    let what = "page cache";
    match os::residency(file, 1) {
        Some(_) => Finding::good(what, "the kernel reports which pages of a file are cached"),
        None => Finding::lacking(
            what,
            "the kernel does not report which pages of a file are cached",
            "choose the reader yourself for cached files: --reader buffered",
        ),
    }
}

/// Shown without advice: it is not known whether a low limit hinders pinning slots for a GPU.
fn locked_memory() -> Finding {
    let limit = os::locked_memory_limit();
    let found = limit.map_or("no limit".into(), |bytes| Bytes(bytes).to_string());
    Finding::good("locked memory", found)
}

#[cfg(feature = "cuda")]
fn cuda() -> Vec<Finding> {
    use tensorlift::cuda::{CudaDevice, survey};

    let survey = match survey() {
        Ok(survey) => survey,
        Err(error) => {
            let remedy = "install the NVIDIA driver, or load to the host";
            return vec![Finding::lacking("cuda", error.to_string(), remedy)];
        }
    };
    let version = survey.driver_version;
    let version = format!("driver for CUDA {}.{}", version / 1000, version % 1000 / 10);
    let mut findings = vec![Finding::good("cuda", version)];
    for device in survey.devices {
        let name = format!(
            "cuda:{} {}, {}",
            device.ordinal,
            device.name,
            Bytes(device.memory)
        );
        let opened = CudaDevice::new(device.ordinal);
        match opened.and_then(|opened| opened.report()) {
            Ok(report) => {
                let found = format!("{name}; started in {:.1?}", report.opening);
                findings.push(Finding::good("gpu", found));
            }
            Err(error) => {
                let found = format!("{name}: {error}");
                findings.push(Finding::lacking("gpu", found, "see the driver's log"));
            }
        }
    }
    // cuFile itself is not opened: that takes half a second.
    let found = match survey.direct_storage {
        Some(by) => format!("available through {by}; tried for large loads"),
        None => "not available: files go through pinned memory".into(),
    };
    findings.push(Finding::good("GPUDirect Storage", found));
    findings
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> Vec<Finding> {
    vec![Finding::lacking(
        "cuda",
        "not built in",
        "build with the default features",
    )]
}
