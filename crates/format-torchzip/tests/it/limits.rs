//! Where the system refuses threads, headers are read without them.
//!
//! The limit holds for a whole process and not for root, so the test runs itself again.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use tensorlift_format_torchzip::{ReadOptions, read};
use tensorlift_storage::MemoryStorage;
use tensorlift_storage::wrap::Slow;

use crate::zip_files::many;

const NAME: &str = "limits::headers_are_read_without_the_threads_that_the_system_refuses";
/// Tells the second run from the first.
const PART: &str = "TENSORLIFT_TEST_PART";
/// The user that owns nothing, and whose threads are counted.
const NOBODY: u32 = 65534;

#[test]
fn headers_are_read_without_the_threads_that_the_system_refuses() {
    if std::env::var_os(PART).is_some() {
        return without_threads();
    }
    let mut command = Command::new("sh");
    // Shells name the limit by one letter or the other.
    let limit = "ulimit -u 1 2>/dev/null || ulimit -p 1; exec \"$0\" \"$@\"";
    command
        .args(["-c", limit])
        .arg(std::env::current_exe().unwrap());
    command.args([NAME, "--exact", "--nocapture", "--test-threads=1"]);
    command.env(PART, "2").current_dir("/");
    command.uid(NOBODY).gid(NOBODY);
    match command.output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {text}", output.status);
        }
        // Only root can become another user.
        Err(error) => eprintln!("not run: {error}"),
    }
}

fn without_threads() {
    let refused = std::thread::Builder::new().spawn(|| ());
    assert!(refused.is_err(), "the limit does not hold");
    // Enough entries for a thread beside the pickles.
    let archive = many(3000, 24);
    let file = read(&MemoryStorage::new(archive), &ReadOptions::default()).unwrap();
    assert_eq!(file.catalog().len(), 3);
    // Enough waiting for several threads.
    let archive = many(300, 20_000);
    let latency = Duration::from_micros(200);
    let slow = Slow::new(MemoryStorage::new(archive.clone()), latency, u64::MAX);
    let slow = read(&slow, &ReadOptions::default()).unwrap();
    let here = read(&MemoryStorage::new(archive), &ReadOptions::default()).unwrap();
    assert_eq!(slow.catalog(), here.catalog());
}
