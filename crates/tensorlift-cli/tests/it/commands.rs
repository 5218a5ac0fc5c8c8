//! Every command on right, broken and interrupted input, in a pipe and in a terminal.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::{output, path, program};

/// What all commands are tried on: a right file, the same with a byte of its header changed, a
/// manifest of the right one, and a place to write to.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let right = folder.path().join("right");
        fs::create_dir(&right).unwrap();
        let name = "model.safetensors";
        fs::copy(Path::new(&path("tiny-model")).join(name), right.join(name)).unwrap();
        let broken = folder.path().join("broken");
        fs::create_dir(&broken).unwrap();
        let mut bytes = fs::read(right.join(name)).unwrap();
        bytes[8] = b'[';
        fs::write(broken.join(name), bytes).unwrap();
        let files = Self { folder };
        let manifest = output(&["manifest", &files.named("right")]);
        fs::write(files.named("manifest.json"), manifest).unwrap();
        files
    }

    fn named(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// The arguments with `MODEL` as the model of this name, and what else stands for a file.
    fn fill(&self, arguments: &[&str], model: &str) -> Vec<String> {
        let filled = arguments.iter().map(|argument| match *argument {
            "MODEL" => self.named(model),
            "RIGHT" => self.named("right"),
            "MANIFEST" => self.named("manifest.json"),
            "OUT" => self.named("out"),
            other => other.to_owned(),
        });
        filled.collect()
    }
}

/// Every command, and whether it notices that a file is broken.
const COMMANDS: [(&[&str], bool); 22] = [
    (&["inspect", "MODEL"], true),
    (&["inspect", "MODEL", "--json"], true),
    (&["inspect", "MODEL", "--hash"], true),
    (&["inspect", "MODEL", "--tree", "--depth", "1"], true),
    (&["inspect", "MODEL", "--summary"], true),
    (&["load", "MODEL"], true),
    (&["load", "MODEL", "--json"], true),
    (&["load", "MODEL", "--explain"], true),
    (&["load", "MODEL", "--mode", "map"], true),
    (&["load", "MODEL", "--manifest", "MANIFEST"], true),
    (&["plan", "MODEL"], true),
    (&["plan", "MODEL", "--device-map", "auto"], true),
    (&["convert", "MODEL", "OUT", "--force"], true),
    (&["verify", "MODEL", "--manifest", "MANIFEST"], true),
    (&["manifest", "MODEL"], true),
    (&["diff", "MODEL", "RIGHT"], true),
    (&["diff", "RIGHT", "MODEL", "--values", "--json"], true),
    (
        &[
            "bench",
            "MODEL",
            "--rounds",
            "1",
            "--start",
            "warm",
            "--threads",
            "1",
        ],
        true,
    ),
    (&["doctor", "MODEL"], false),
    (&["completions", "bash"], false),
    (&["schema", "load"], false),
    (&["schema"], false),
];

#[test]
fn every_command_that_there_is_is_tried() {
    let help = output(&["--help"]);
    let commands = help.split("Commands:\n").nth(1).unwrap();
    let commands = commands.lines().take_while(|line| line.starts_with("  "));
    // Descriptions go on in lines that are further to the right.
    let named = commands.filter(|line| !line.starts_with("    "));
    for command in named.filter_map(|line| line.split_whitespace().next()) {
        let is_tried = COMMANDS
            .iter()
            .any(|(arguments, _)| arguments[0] == command);
        assert!(
            is_tried || command == "help",
            "{command} is not in the table"
        );
    }
}

#[test]
fn right_and_broken_files_in_a_pipe() {
    let files = Files::new();
    for (arguments, notices) in COMMANDS {
        for (model, status) in [("right", 0), ("broken", i32::from(notices))] {
            let arguments = files.fill(arguments, model);
            let run = program().args(&arguments).output().unwrap();
            let said = [&run.stdout[..], &run.stderr].concat();
            let said = String::from_utf8(said).unwrap();
            assert_eq!(run.status.code(), Some(status), "{arguments:?}: {said}");
            assert!(!said.contains(['\u{1b}', '\r']), "{arguments:?}: {said:?}");
            assert!(!said.contains("panicked"), "{arguments:?}: {said}");
            assert_eq!(
                said.contains("error: "),
                status == 1,
                "{arguments:?}: {said}"
            );
        }
    }
}

/// Runs a command in a terminal, where there is a program that offers one; with its status.
#[cfg(target_os = "linux")]
fn in_terminal(arguments: &[String]) -> Option<Output> {
    let quoted = |text: &String| format!("'{text}'");
    let words: Vec<String> = arguments.iter().map(quoted).collect();
    let command = format!("{} {}", env!("CARGO_BIN_EXE_tensorlift"), words.join(" "));
    let mut script = Command::new("script");
    script.args([
        "--quiet",
        "--return",
        "--flush",
        "--command",
        &command,
        "/dev/null",
    ]);
    script.env("TERM", "xterm").stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TENSORLIFT_") {
            script.env_remove(name);
        }
    }
    match script.output() {
        Ok(output) => Some(output),
        Err(_) => {
            println!("not run: no program `script`");
            None
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn right_and_broken_files_in_a_terminal() {
    let files = Files::new();
    for (arguments, notices) in COMMANDS {
        for (model, status) in [("right", 0), ("broken", i32::from(notices))] {
            let arguments = files.fill(arguments, model);
            let Some(run) = in_terminal(&arguments) else {
                return;
            };
            let said = String::from_utf8_lossy(&run.stdout);
            assert_eq!(run.status.code(), Some(status), "{arguments:?}: {said}");
            assert!(!said.contains("panicked"), "{arguments:?}: {said}");
            let ends_cleanly = said.is_empty() || said.ends_with('\n');
            assert!(ends_cleanly, "{arguments:?}: {said:?}");
        }
    }
}

/// A checkpoint of zeros that take no room on the disk.
#[cfg(target_os = "linux")]
fn sparse(folder: &Path, tensors: u64, bytes: u64) -> String {
    let tensor = |index: u64| {
        let (start, end) = (index * bytes, (index + 1) * bytes);
        format!(r#""t{index}":{{"dtype":"U8","shape":[{bytes}],"data_offsets":[{start},{end}]}}"#)
    };
    let tensors_text: Vec<String> = (0..tensors).map(tensor).collect();
    let header = format!("{{{}}}", tensors_text.join(","));
    let mut head = (header.len() as u64).to_le_bytes().to_vec();
    head.extend(header.as_bytes());
    let path = folder.join("model.safetensors");
    fs::write(&path, &head).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(head.len() as u64 + tensors * bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
#[cfg(target_os = "linux")]
fn the_bar_goes_forward_and_never_shows_a_rate_of_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let model = sparse(folder.path(), 8, 128 << 20);
    let arguments = ["load", &model, "--device", "null", "--threads", "1"];
    let Some(run) = in_terminal(&arguments.map(str::to_owned)) else {
        return;
    };
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}");
    let mut frames = 0;
    let mut before = 0.0;
    for frame in said
        .split(['\r', '\n'])
        .filter(|frame| frame.contains("B/s") && frame.contains(" of "))
    {
        let (done, rest) = frame.split_once(" of ").unwrap();
        let mut words = done.split_whitespace().rev();
        let unit = words.next().unwrap();
        let number: f64 = words.next().unwrap().parse().unwrap();
        let factor = match unit {
            "B" => 1.0,
            "kB" => 1e3,
            "MB" => 1e6,
            "GB" => 1e9,
            other => panic!("{other} in {frame:?}"),
        };
        let done = number * factor;
        assert!(done >= before, "{frame:?} after {before}");
        assert!(done == 0.0 || !rest.contains(" 0 B/s"), "{frame:?}");
        (before, frames) = (done, frames + 1);
    }
    assert!(frames >= 2, "{said:?}");
}

#[test]
#[cfg(target_os = "linux")]
fn no_bar_is_drawn_between_the_lines_of_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let model = sparse(folder.path(), 8, 128 << 20);
    let arguments = ["load", &model, "--device", "null", "--log", "info"];
    let Some(run) = in_terminal(&arguments.map(str::to_owned)) else {
        return;
    };
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(
        said.contains("INFO") && said.contains("8 tensors"),
        "{said}"
    );
    // What clears a line.
    assert!(!said.contains("\u{1b}[2K"), "{said:?}");
}

/// Whether SIGINT, which is signal 2, is among the signals that this process ignores.
#[cfg(target_os = "linux")]
fn ignores_interrupts() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.map(|mask| u64::from_str_radix(mask.trim(), 16).unwrap());
    ignored.is_some_and(|mask| mask & 0b10 != 0)
}

#[test]
#[cfg(target_os = "linux")]
fn interrupted_commands_end_and_leave_nothing_behind() {
    if ignores_interrupts() {
        // As shells start what runs in their background; children inherit it.
        eprintln!("not run: this process ignores SIGINT");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // Longer than the interruption takes to arrive; nothing of it is kept in memory.
    let model = sparse(folder.path(), 64, 256 << 20);
    let sums = folder.path().join("SHA256SUMS");
    fs::write(&sums, format!("{:064}  model.safetensors\n", 0)).unwrap();
    let out = folder.path().join("out");
    let out = out.to_str().unwrap();
    let left = || {
        let files = fs::read_dir(folder.path()).unwrap().flatten();
        let mut names: Vec<_> = files.map(|file| file.file_name()).collect();
        names.sort();
        names
    };
    let before = left();
    for arguments in [
        &["load", &model, "--device", "null"][..],
        &["verify", &model],
        &["manifest", &model, "--out", out],
        &["convert", &model, out],
        &["diff", &model, &model, "--values"],
        &["bench", &model, "--start", "cold", "--device", "null"],
    ] {
        let mut command = program();
        let command = command
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let io = format!("/proc/{}/io", child.id());
        // Its own files are smaller.
        while bytes_read(&io) < 64 << 20 {
            assert!(
                child.try_wait().unwrap().is_none(),
                "{arguments:?} ended by itself"
            );
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let pid = child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status().unwrap();
        assert!(sent.success());
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        // Commands that have nothing to remove leave the signal to the system.
        let by_signal = std::os::unix::process::ExitStatusExt::signal(&ended.status) == Some(2);
        assert!(
            by_signal || ended.status.code() == Some(130),
            "{arguments:?}: {said}"
        );
        assert_eq!(left(), before, "{arguments:?}");
    }
}

/// How much a process has read, from files and the page cache.
#[cfg(target_os = "linux")]
fn bytes_read(io: &str) -> u64 {
    let text = fs::read_to_string(io).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("rchar: "));
    line.map_or(0, |bytes| bytes.parse().unwrap())
}

#[test]
fn every_command_of_the_pages_is_one_that_there_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut tried = 0;
    for page in [
        "README.md",
        "COMPARISON.md",
        "SECURITY.md",
        "CONTRIBUTING.md",
    ] {
        // The tarball of this crate has its own page alone.
        let Ok(text) = fs::read_to_string(root.join(page)) else {
            continue;
        };
        // Within fences alone: sentences begin with the name too.
        let blocks = text.split("```").skip(1).step_by(2);
        let lines = blocks.flat_map(str::lines);
        for command in lines.filter_map(|line| line.strip_prefix("tensorlift ")) {
            let command = command.split('#').next().unwrap();
            let words: Vec<&str> = command.split([' ', '[', ']', '|']).collect();
            let help = output(&[words[0], "--help"]);
            for option in words.iter().filter(|word| word.starts_with("--")) {
                assert!(help.contains(option), "{page}: {words:?} has no {option}");
            }
            tried += 1;
        }
    }
    assert!(tried > 5 || !root.join("README.md").exists());
}
