//! What reads the files.

use std::path::Path;
use std::process::Command;

use tensorlift_bench_protocol::Request;

use crate::programs::Built;
use crate::{Result, flags};

/// A reader.
pub(super) struct Reader {
    pub(super) name: &'static str,
    start: Start,
    /// Whether its misses fail this run; those of peers do not.
    pub(super) counts: bool,
    /// Whether it knows PyTorch files only.
    pub(super) torch_only: bool,
    /// Whether it takes one file, and neither folder nor index.
    one_file: bool,
    /// Whether its names of tensors follow another rule.
    pub(super) own_names: bool,
}

/// What a program calls the engine for a file.
type EngineOf = fn(&Path) -> &'static str;

enum Start {
    Engine {
        program: Built,
        release: bool,
        engine: EngineOf,
    },
    Line(Vec<String>),
}

impl Reader {
    /// The readers that the flags ask for, built.
    pub(super) fn chosen(flags: &flags::Conform) -> Result<Vec<Self>> {
        let mut readers = Vec::new();
        match &flags.cmd {
            Some(line) => readers.push(Self::line(line)?),
            None => {
                Built::Engines.build(flags.release)?;
                readers.push(Self {
                    name: "tensorlift",
                    start: Start::Engine {
                        program: Built::Engines,
                        release: flags.release,
                        engine: |_| "tensorlift",
                    },
                    counts: true,
                    torch_only: false,
                    one_file: false,
                    own_names: false,
                });
            }
        }
        if flags.peers {
            Built::Peers.build(true)?;
            let engines: [(&str, EngineOf, bool); 3] = [
                ("candle-core 0.11", candle_engine, false),
                ("anamnesis 0.7", anamnesis_engine, false),
                ("pytorch-reader 0.22", |_| "pytorch-reader", true),
            ];
            for (name, engine, torch_only) in engines {
                readers.push(Self {
                    name,
                    start: Start::Engine {
                        program: Built::Peers,
                        release: true,
                        engine,
                    },
                    counts: false,
                    torch_only,
                    one_file: true,
                    own_names: true,
                });
            }
        }
        Ok(readers)
    }

    fn line(line: &str) -> Result<Self> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        if !words.iter().any(|word| word.contains("{file}")) || words.len() < 2 {
            return Err(format!("--cmd {line:?} has no place for {{file}}").into());
        }
        Ok(Self {
            name: "the command",
            start: Start::Line(words),
            counts: true,
            torch_only: false,
            one_file: false,
            own_names: false,
        })
    }

    /// Whether it can be asked for what lies at `path`.
    pub(super) fn reads(&self, path: &Path) -> bool {
        let extension = path.extension().and_then(|extension| extension.to_str());
        let several = path.is_dir() || extension == Some("json");
        !(self.one_file && several || self.torch_only && extension == Some("safetensors"))
    }

    /// The process that reads `path`, in a folder where nothing else is.
    pub(super) fn command(&self, path: &Path, folder: &Path) -> Command {
        let mut command = match &self.start {
            Start::Engine {
                program,
                release,
                engine,
            } => {
                let request = Request {
                    engine: engine(path).to_owned(),
                    path: path.to_owned(),
                    prime_bytes: 0,
                };
                let mut command = program.command(*release);
                command.args(request.arguments());
                command
            }
            Start::Line(words) => {
                let file = path.to_string_lossy();
                let mut words = words.iter().map(|word| word.replace("{file}", &file));
                let mut command = Command::new(words.next().unwrap_or_default());
                command.args(words);
                command
            }
        };
        command.current_dir(folder);
        command
    }
}

fn candle_engine(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("safetensors") => "candle-load",
        _ => "candle-pickle",
    }
}

fn anamnesis_engine(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("safetensors") => "anamnesis-safetensors",
        _ => "anamnesis-pth",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_needs_a_place_for_the_file() {
        assert!(Reader::line("program").is_err());
        let reader = Reader::line("program --read={file}").unwrap();
        let command = reader.command("some/model.pt".as_ref(), ".".as_ref());
        let arguments: Vec<_> = command.get_args().collect();
        assert_eq!(arguments, ["--read=some/model.pt"]);
    }
}
