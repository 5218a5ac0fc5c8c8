//! Limits of the machine: loads go on with less, or fail with a typed error, but never abort.
//!
//! Limits hold for a whole process, so each test runs itself again in a process of its own.

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tensorlift_device::HostDevice;
use tensorlift_loader::{Control, LoadOptions, Placement, load_each, load_into};
use tensorlift_storage::os;
use tensorlift_tensor_meta::{Catalog, Dtype, ErrorKind, Extent, Layout, Record, ShardId, View};

use super::{Sample, pattern};

/// Says which part a process plays.
const PART: &str = "TENSORLIFT_TEST_PART";
/// The user that owns nothing.
const NOBODY: u32 = 65534;

/// Runs the test of this name again, as another user if that is asked for; false, and said aloud,
/// where that cannot be.
fn again(name: &str, as_nobody: bool) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]);
    command.env(PART, name).current_dir("/");
    if as_nobody {
        if !rustix::process::geteuid().is_root() {
            eprintln!("not run: only root can become another user");
            return false;
        }
        command.uid(NOBODY).gid(NOBODY);
    }
    match command.output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {text}", output.status);
            true
        }
        Err(error) => {
            eprintln!("not run: the test cannot run itself: {error}");
            false
        }
    }
}

fn is_second_run() -> bool {
    std::env::var_os(PART).is_some()
}

fn limit(resource: Resource, value: u64) {
    let maximum = getrlimit(resource).maximum;
    let current = Some(value);
    setrlimit(resource, Rlimit { current, maximum }).unwrap();
}

/// The address space that this process has, in bytes.
fn address_space() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
    pages * rustix::param::page_size() as u64
}

/// One transposed and one plain tensor.
fn sample(rows: usize, columns: usize) -> Sample {
    let mut builder = Catalog::builder();
    let len = (rows * columns) as u64;
    for (index, strides) in [[1, rows], [columns, 1]].into_iter().enumerate() {
        let extent = Extent::new(ShardId::FIRST, index as u64 * len, len);
        let record = builder.record(Record::stored(extent)).unwrap();
        let layout = Layout::strided([rows, columns], strides).unwrap();
        builder
            .entry(format!("t{index}"), Dtype::U8, layout, View::whole(record))
            .unwrap();
    }
    Sample {
        catalog: builder.finish(),
        shards: vec![pattern(2 * len as usize, 4)],
    }
}

#[test]
fn a_load_goes_on_without_the_threads_that_the_system_refuses() {
    const NAME: &str = "limits::a_load_goes_on_without_the_threads_that_the_system_refuses";
    if !is_second_run() {
        again(NAME, true);
        return;
    }
    let sample = sample(1500, 2000);
    // The threads that run already are more than that.
    limit(Resource::Nproc, 1);
    let options = LoadOptions::default().read_threads(4).chunk_bytes(100_000);
    let loaded = sample.load(&sample.shards(), HostDevice::new(), &options);
    let loaded = loaded.unwrap();
    let report = loaded.report();
    assert_eq!((report.threads, report.threads_refused), (1, 4));
    assert!(
        report
            .to_string()
            .contains("4 threads could not be started")
    );
    let plain = loaded.tensor("t1").unwrap().as_bytes().unwrap();
    assert!(plain == &sample.shards[0][3_000_000..]);
    // Gathering and handing on use threads too.
    let transposed = loaded.tensor("t0").unwrap().to_contiguous().unwrap();
    assert_eq!(transposed.as_bytes().unwrap()[1], sample.shards[0][1500]);
    let mut seen = 0;
    let catalog = std::sync::Arc::new(sample.catalog.clone());
    load_each(
        &catalog,
        &sample.shards(),
        &Placement::default(),
        |entry| Some(entry.name().to_owned()),
        &options,
        &Control::default(),
        |tensors| {
            seen += tensors.len();
            Ok(())
        },
    )
    .unwrap();
    assert_eq!(seen, 2);
}

#[test]
fn memory_that_the_system_refuses_is_an_error() {
    const NAME: &str = "limits::memory_that_the_system_refuses_is_an_error";
    if !is_second_run() {
        again(NAME, false);
        return;
    }
    let sample = sample(2000, 10_000);
    let shards = sample.shards();
    let mut memory = vec![0; 20_000_000];
    limit(Resource::As, address_space() + (16 << 20));
    // More than the limit allows, though the machine has it.
    let options = LoadOptions::default()
        .memory_bytes(u64::MAX)
        .read_threads(1);
    let error = sample.load(&shards, HostDevice::new(), &options);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Device);
    // A transposed tensor is read whole before it is gathered.
    let parameters = [("t0", &mut memory[..])];
    let control = Control::default();
    let error = load_into(
        &sample.catalog,
        &shards,
        |_| true,
        parameters,
        &options,
        &control,
    );
    let error = error.unwrap_err();
    assert_eq!(error.error.kind(), ErrorKind::LimitExceeded);
    assert!(error.to_string().contains("20000000 bytes"), "{error}");
    // What needs none goes on.
    let parameters = [("t1", &mut memory[..])];
    let loaded = load_into(
        &sample.catalog,
        &shards,
        |_| true,
        parameters,
        &options,
        &control,
    );
    assert_eq!(loaded.unwrap().report.bytes_read, 20_000_000);
    assert!(memory == sample.shards[0][20_000_000..]);
    assert!(os::memory().peak > 0);
}
