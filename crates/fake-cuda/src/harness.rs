//! For tests: puts the double in the way of a child process, and asks it.
//!
//! The dynamic loader reads its search path when a process starts, so a test that needs the double
//! runs itself again as a child with another path. Nothing in the code under test knows of it.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use libloading::{Library, Symbol};

use crate::Counts;
use crate::costs::Call;

/// Set in a child process only; its value names the test that the child is there for.
const CHILD: &str = "TENSORLIFT_FAKE_CUDA_CHILD";

/// The variable by which the dynamic loader finds libraries.
const SEARCH_PATH: &str = "LD_LIBRARY_PATH";

/// A child that takes longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(300);

/// A child process that loads the double in place of the driver.
#[derive(Debug)]
pub struct Fake {
    test: &'static str,
    with_cufile: bool,
    lacking: Option<&'static str>,
    misuse: bool,
    settings: Vec<(&'static str, u64)>,
}

impl Fake {
    /// For the test of this full name, as the test binary lists it.
    #[must_use]
    pub fn new(test: &'static str) -> Self {
        Self {
            test,
            with_cufile: false,
            lacking: None,
            misuse: false,
            settings: Vec::new(),
        }
    }

    /// Offers cuFile too.
    #[must_use]
    pub fn with_cufile(mut self) -> Self {
        self.with_cufile = true;
        self
    }

    /// Leaves out a call of the driver, as an older one would.
    #[must_use]
    pub fn lacking(mut self, call: &'static str) -> Self {
        self.lacking = Some(call);
        self
    }

    /// Allows that the child leaves things alive and misuses the driver, for tests of just that.
    #[must_use]
    pub fn allowing_misuse(mut self) -> Self {
        self.misuse = true;
        self
    }

    /// Sets a setting before the process starts.
    #[must_use]
    pub fn set(mut self, name: &'static str, value: u64) -> Self {
        self.settings.push((name, value));
        self
    }

    /// Runs `body` in a child process, and fails as it fails, or if it leaves anything alive.
    ///
    /// # Panics
    /// If the child fails.
    pub fn run(self, body: impl FnOnce(&Control)) {
        if std::env::var(CHILD).is_ok_and(|test| test == self.test) {
            let control = Control::open();
            body(&control);
            if !self.misuse {
                control.assert_clean();
            }
            return;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        match self.lacking {
            None => link(folder.path(), self.with_cufile),
            Some(call) => write_lacking(folder.path(), call),
        }
        let mut child = Command::new(std::env::current_exe().expect("the test's own path"));
        child
            .args(["--exact", self.test, "--nocapture", "--test-threads", "1"])
            .env(CHILD, self.test)
            .env(SEARCH_PATH, search_path(folder.path()));
        for (name, value) in self.settings {
            child.env(
                format!("FAKE_CUDA_{}", name.to_uppercase()),
                value.to_string(),
            );
        }
        let (out, err) = (folder.path().join("out"), folder.path().join("err"));
        child
            .stdout(File::create(&out).expect("a file for the output"))
            .stderr(File::create(&err).expect("a file for the messages"));
        let status = wait(child.spawn().expect("the test binary runs"));
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let (out, err) = (text(out), text(err));
        assert!(
            status.is_some_and(|status| status.success()) && out.contains("1 passed"),
            "{} in the child: {status:?}\n{out}\n{err}",
            self.test,
        );
    }
}

/// Waits for the child, and ends it if it hangs.
fn wait(mut child: Child) -> Option<ExitStatus> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().expect("a child of this process") {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("a child of this process");
    child.wait().expect("a child of this process");
    None
}

/// A search path on which the double comes first, for processes that are no test binaries.
///
/// The folder must outlive the process.
#[must_use]
pub fn search_path(folder: &Path) -> std::ffi::OsString {
    let rest = std::env::var_os(SEARCH_PATH);
    let rest = rest.iter().flat_map(std::env::split_paths);
    std::env::join_paths(std::iter::once(folder.to_owned()).chain(rest)).expect("paths without ':'")
}

/// Links the double into a folder under the names that the driver's library has.
///
/// # Panics
/// If the double was not built, or the links cannot be made.
pub fn link(folder: &Path, with_cufile: bool) {
    let library = library();
    let driver = ["libcuda.so", "libcuda.so.1"].as_slice();
    let cufile = ["libcufile.so", "libcufile.so.0"].as_slice();
    let names = driver.iter().chain(cufile.iter().filter(|_| with_cufile));
    for name in names {
        std::os::unix::fs::symlink(&library, folder.join(name)).expect("a link in the folder");
    }
}

/// Writes a copy of the double in which the name of a call is another one.
fn write_lacking(folder: &Path, call: &str) {
    let mut bytes = fs::read(library()).expect("the double can be read");
    let name = [b"\0", call.as_bytes(), b"\0"].concat();
    let found: Vec<_> = (bytes.windows(name.len()).enumerate())
        .filter_map(|(at, window)| (window == name).then_some(at))
        .collect();
    assert!(!found.is_empty(), "no symbol {call}");
    // The dynamic loader finds symbols by a hash of their names.
    found.into_iter().for_each(|at| bytes[at + 1] = b'_');
    let copy = folder.join("libcuda.so.1");
    fs::write(&copy, &bytes).expect("a file in the folder");
    // One file: another one would be another library.
    std::os::unix::fs::symlink(copy, folder.join("libcuda.so")).expect("a link in the folder");
}

/// Where cargo put the shared library: beside the test binaries, as it is a dependency of theirs.
fn library() -> PathBuf {
    let own = std::env::current_exe().expect("the test's own path");
    let folders = own.ancestors().skip(1).take(3);
    let candidates = folders.flat_map(|folder| [folder.to_owned(), folder.join("deps")]);
    candidates
        .map(|folder| folder.join("libtensorlift_fake_cuda.so"))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("no libtensorlift_fake_cuda.so near {}", own.display()))
}

/// Asks and orders the double that is loaded in this process.
#[derive(Debug)]
pub struct Control {
    library: Library,
}

impl Control {
    fn open() -> Self {
        // SAFETY: the double runs no code when it is loaded.
        let library = unsafe { Library::new("libcuda.so.1") }.expect("the double is on the path");
        Self { library }
    }

    /// What is alive now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        let call: Symbol<'_, extern "C" fn(*mut Counts)> = self.symbol("fake_cuda_counts");
        call(&raw mut counts);
        counts
    }

    /// Sets a setting.
    ///
    /// # Panics
    /// If there is no such.
    pub fn set(&self, name: &str, value: u64) {
        let call: Symbol<'_, extern "C" fn(*const i8, u64) -> u32> = self.symbol("fake_cuda_set");
        let text = CString::new(name).expect("a name without zeros");
        assert_eq!(call(text.as_ptr().cast(), value), 1, "no setting {name}");
    }

    /// Lets the `nth` call of this name from now on (counted from 1) fail with `code`.
    pub fn fail(&self, call: &str, nth: u64, code: u32) {
        self.plan(call, nth, code, false);
    }

    /// Like [`fail`](Self::fail), and all calls to the device after it fail too.
    pub fn lose_device_at(&self, call: &str, nth: u64, code: u32) {
        self.plan(call, nth, code, true);
    }

    fn plan(&self, name: &str, nth: u64, code: u32, loses: bool) {
        type Plan = extern "C" fn(*const i8, u64, u32, u32);
        let call: Symbol<'_, Plan> = self.symbol("fake_cuda_fail");
        let text = CString::new(name).expect("a name without zeros");
        call(text.as_ptr().cast(), nth, code, loses.into());
    }

    /// Takes back what [`fail`](Self::fail) planned.
    pub fn forget_faults(&self) {
        let call: Symbol<'_, extern "C" fn()> = self.symbol("fake_cuda_forget_faults");
        call();
    }

    /// How often each call was made so far.
    #[must_use]
    pub fn calls(&self) -> BTreeMap<String, u64> {
        let text = self.text("fake_cuda_calls");
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        lines
            .filter_map(|(call, count)| Some((call.to_owned(), count.parse().ok()?)))
            .collect()
    }

    /// The misuses seen so far.
    #[must_use]
    pub fn violations(&self) -> String {
        self.text("fake_cuda_violations")
    }

    /// Checks that nothing is alive and nothing was misused.
    ///
    /// # Panics
    /// If something is or was.
    pub fn assert_clean(&self) {
        let counts = self.counts();
        assert!(counts.is_clean(), "{counts:?}\n{}", self.violations());
    }

    /// Every call since the log was last forgotten, in order.
    #[must_use]
    pub fn log(&self) -> Vec<Call> {
        let text = self.text("fake_cuda_log");
        text.lines().filter_map(Call::parse).collect()
    }

    /// Forgets the calls so far.
    pub fn forget_log(&self) {
        let call: Symbol<'_, extern "C" fn()> = self.symbol("fake_cuda_forget_log");
        call();
    }

    /// Keeps calls of this name waiting until [`open_gate`](Self::open_gate); a call that waits
    /// for 20 s fails.
    pub fn close_gate(&self, call: &str) {
        let gate: Symbol<'_, extern "C" fn(*const i8)> = self.symbol("fake_cuda_gate");
        let text = CString::new(call).expect("a name without zeros");
        gate(text.as_ptr().cast());
    }

    /// Lets all calls through.
    pub fn open_gate(&self) {
        self.close_gate("");
    }

    fn text(&self, name: &str) -> String {
        let call: Symbol<'_, extern "C" fn(*mut u8, usize) -> usize> = self.symbol(name);
        // The text may grow between the calls.
        let mut bytes = vec![0; call(std::ptr::null_mut(), 0) + (1 << 16)];
        let len = call(bytes.as_mut_ptr(), bytes.len());
        assert!(len <= bytes.len(), "{name} grows too fast");
        bytes.truncate(len);
        String::from_utf8(bytes).expect("text")
    }

    fn symbol<T>(&self, name: &str) -> Symbol<'_, T> {
        // SAFETY: each caller in this file names the type that `control.rs` gives the symbol.
        unsafe { self.library.get(name.as_bytes()) }.expect("the double's own symbol")
    }
}
