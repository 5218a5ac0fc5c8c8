//! Load options from environment variables.
//!
//! | variable | values | what it sets |
//! | --- | --- | --- |
//! | `TENSORLIFT_MODE` | `copy`, `map` | [`LoadOptions::mode`] |
//! | `TENSORLIFT_READER` | `auto`, `buffered`, `direct`, `uring` | [`LoadOptions::reader`] |
//! | `TENSORLIFT_PAGE_CACHE` | `keep`, `drop-after`, `bypass` | [`LoadOptions::page_cache`] |
//! | `TENSORLIFT_VERIFY` | `true`, `false` | [`LoadOptions::verify`] |
//! | `TENSORLIFT_THREADS` | a number from 1 on | [`LoadOptions::read_threads`] |
//! | `TENSORLIFT_CHUNK_BYTES` | a size, as in `4MiB` | [`LoadOptions::chunk_bytes`] |
//! | `TENSORLIFT_MERGE_GAP_BYTES` | a size | [`LoadOptions::merge_gap_bytes`] |
//! | `TENSORLIFT_MEMORY_BYTES` | a size | [`LoadOptions::memory_bytes`] |
//! | `TENSORLIFT_DTYPE` | `keep`, `f64`, `f32`, `f16`, `bf16` | [`LoadOptions::dtype`] |
//!
//! Other names for the same:
//!
//! | variable | is the same as |
//! | --- | --- |
//! | `TENSORLIFT_MMAP=true`, `false` | `TENSORLIFT_MODE=map`, `copy` |
//! | `TENSORLIFT_DIRECT=true` | `TENSORLIFT_READER=direct` |
//! | `TENSORLIFT_IO_URING=true` | `TENSORLIFT_READER=uring` |
//!
//! `true` may be `1`, `yes` or `on`, and `false` `0`, `no` or `off`.
//! An empty variable counts as unset.
//!
//! ```
//! use tensorlift::settings::Settings;
//!
//! # fn main() -> tensorlift::Result<()> {
//! let settings = Settings::from_variables([("TENSORLIFT_MMAP", "1"), ("TENSORLIFT_DTYPE", "")])?;
//! assert_eq!(settings.to_string(), "mode=map (TENSORLIFT_MMAP)");
//! # std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).unwrap();
//! let checkpoint = tensorlift::Checkpoint::open("fixtures/tiny-model")?;
//! checkpoint.loader().options(settings.options()).load()?;
//! # Ok(())
//! # }
//! ```

use std::fmt;

use serde::Serialize;
use tensorlift_loader::{DtypePolicy, LoadOptions, Mode, Verify, parse_size};
use tensorlift_tensor_meta::{Dtype, Error, ErrorKind, Result};

/// What all variables begin with.
const PREFIX: &str = "TENSORLIFT_";
/// Each variable, without its prefix, and the option that it sets.
const VARIABLES: [(&str, &str); 9] = [
    ("MODE", "mode"),
    ("READER", "reader"),
    ("PAGE_CACHE", "page_cache"),
    ("VERIFY", "verify"),
    ("THREADS", "read_threads"),
    ("CHUNK_BYTES", "chunk_bytes"),
    ("MERGE_GAP_BYTES", "merge_gap_bytes"),
    ("MEMORY_BYTES", "memory_bytes"),
    ("DTYPE", "dtype"),
];
/// Switches: the option, its value where they are on and where they are off.
const SWITCHES: [(&str, &str, &str, Option<&str>); 3] = [
    ("MMAP", "mode", "map", Some("copy")),
    ("DIRECT", "reader", "direct", None),
    ("IO_URING", "reader", "uring", None),
];

/// The options that environment variables set.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    options: LoadOptions,
    in_force: Vec<Setting>,
}

/// An option that a variable sets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Setting {
    /// The option.
    pub option: &'static str,
    /// Its value.
    pub value: String,
    /// The variable that set it.
    pub variable: String,
}

impl Settings {
    /// The settings of this process's environment.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] for values that an option does not have, and for variables that set
    /// one option to different values; the error names all of them.
    pub fn from_environment() -> Result<Self> {
        let variables = std::env::vars_os();
        Self::from_variables(variables.filter_map(|(name, value)| {
            let value = value.to_string_lossy().into_owned();
            Some((name.into_string().ok()?, value))
        }))
    }

    /// The settings of these variables; those of other programs are passed over.
    ///
    /// # Errors
    /// As [`from_environment`](Self::from_environment).
    pub fn from_variables(
        variables: impl IntoIterator<Item = (impl AsRef<str>, impl AsRef<str>)>,
    ) -> Result<Self> {
        let (mut settings, mut wrong) = (Self::default(), Vec::new());
        for (variable, value) in variables {
            let (variable, value) = (variable.as_ref(), value.as_ref().trim());
            let Some(name) = variable.strip_prefix(PREFIX).filter(|_| !value.is_empty()) else {
                continue;
            };
            match meaning(name, value) {
                Ok(Some((option, value))) => settings.add(option, value, variable),
                Ok(None) => {}
                Err(expected) => {
                    wrong.push(format!("{variable}={value:?} (expected {expected})"));
                }
            }
        }
        settings
            .in_force
            .sort_by(|one, other| one.variable.cmp(&other.variable));
        wrong.extend(settings.conflicts());
        for setting in settings.in_force.clone() {
            if let Err(expected) = settings.apply(setting.option, &setting.value) {
                let Setting {
                    variable, value, ..
                } = setting;
                wrong.push(format!("{variable}={value:?} (expected {expected})"));
            }
        }
        match wrong.is_empty() {
            true => Ok(settings),
            false => Err(Error::new(ErrorKind::Misuse, wrong.join("; "))
                .with_remedy("change these environment variables, or unset them")),
        }
    }

    /// The load options, with defaults where no variable sets one.
    #[must_use]
    pub fn options(&self) -> LoadOptions {
        self.options.clone()
    }

    /// The options that are set, by the name of their variable.
    #[must_use]
    pub fn in_force(&self) -> &[Setting] {
        &self.in_force
    }

    fn add(&mut self, option: &'static str, value: String, variable: &str) {
        self.in_force.push(Setting {
            option,
            value,
            variable: variable.to_owned(),
        });
    }

    /// Options that variables set to different values.
    fn conflicts(&self) -> Vec<String> {
        let mut conflicts = Vec::new();
        for (index, one) in self.in_force.iter().enumerate() {
            for other in &self.in_force[index + 1..] {
                if one.option == other.option && one.value != other.value {
                    conflicts.push(format!(
                        "{} and {} disagree: {}={} and {}={}",
                        one.variable,
                        other.variable,
                        one.option,
                        one.value,
                        other.option,
                        other.value
                    ));
                }
            }
        }
        conflicts
    }

    /// Sets an option; otherwise, says what it expects.
    fn apply(&mut self, option: &str, value: &str) -> Result<(), &'static str> {
        let options = std::mem::take(&mut self.options);
        let size = || parse_size(value).map_err(|_| "a size, as in 4MiB");
        self.options = match option {
            "mode" => options.mode(match value {
                "copy" => Mode::Copy,
                "map" => Mode::Map,
                _ => return Err("copy or map"),
            }),
            "reader" => {
                let reader = value.parse();
                options.reader(reader.map_err(|_| "auto, buffered, direct or uring")?)
            }
            "page_cache" => {
                let page_cache = value.parse();
                options.page_cache(page_cache.map_err(|_| "keep, drop-after or bypass")?)
            }
            "verify" => options.verify(match value {
                "true" => Verify::Crc32,
                _ => Verify::Nothing,
            }),
            "read_threads" => match value.parse() {
                Ok(threads) if threads > 0 => options.read_threads(threads),
                _ => return Err("a number from 1 on"),
            },
            "chunk_bytes" => {
                let bytes = usize::try_from(size()?);
                options.chunk_bytes(bytes.map_err(|_| "a size that fits into an address")?)
            }
            "merge_gap_bytes" => options.merge_gap_bytes(size()?),
            "memory_bytes" => options.memory_bytes(size()?),
            _ => options.dtype(match value {
                "keep" => DtypePolicy::Keep,
                "f64" => DtypePolicy::To(Dtype::F64),
                "f32" => DtypePolicy::To(Dtype::F32),
                "f16" => DtypePolicy::To(Dtype::F16),
                "bf16" => DtypePolicy::To(Dtype::BF16),
                _ => return Err("keep, f64, f32, f16 or bf16"),
            }),
        };
        Ok(())
    }
}

/// The settings in force, by commas.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.in_force.is_empty() {
            return f.write_str("no setting");
        }
        for (index, setting) in self.in_force.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let Setting {
                option,
                value,
                variable,
            } = setting;
            write!(f, "{comma}{option}={value} ({variable})")?;
        }
        Ok(())
    }
}

/// The option and the value that a variable means, if it is one of ours.
fn meaning(name: &str, value: &str) -> Result<Option<(&'static str, String)>, &'static str> {
    let value = value.to_ascii_lowercase();
    if let Some((_, option, on, off)) = SWITCHES.iter().find(|(switch, ..)| *switch == name) {
        let value = if truth(&value)? { Some(*on) } else { *off };
        return Ok(value.map(|value| (*option, value.to_owned())));
    }
    let Some((_, option)) = VARIABLES.iter().find(|(variable, _)| *variable == name) else {
        return Ok(None);
    };
    let value = match *option {
        "verify" => truth(&value)?.to_string(),
        _ => value,
    };
    Ok(Some((*option, value)))
}

fn truth(value: &str) -> Result<bool, &'static str> {
    match value {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("true or false"),
    }
}

#[cfg(test)]
mod tests {
    use tensorlift_loader::Reader;

    use super::*;

    #[test]
    fn every_variable_sets_its_option() {
        let variables = [
            ("TENSORLIFT_MODE", "map"),
            ("TENSORLIFT_READER", "Direct"),
            ("TENSORLIFT_PAGE_CACHE", "drop-after"),
            ("TENSORLIFT_VERIFY", "on"),
            ("TENSORLIFT_THREADS", "3"),
            ("TENSORLIFT_CHUNK_BYTES", "1MiB"),
            ("TENSORLIFT_MERGE_GAP_BYTES", "0"),
            ("TENSORLIFT_MEMORY_BYTES", "2GB"),
            ("TENSORLIFT_DTYPE", "bf16"),
            ("TENSORLIFT_OTHER", "x"),
            ("PATH", "/"),
        ];
        let settings = Settings::from_variables(variables).unwrap();
        let options = settings.options();
        assert_eq!((options.mode, options.reader), (Mode::Map, Reader::Direct));
        assert_eq!(
            (options.verify, options.read_threads),
            (Verify::Crc32, Some(3))
        );
        assert_eq!((options.chunk_bytes, options.merge_gap_bytes), (1 << 20, 0));
        assert_eq!(options.memory_bytes, Some(2_000_000_000));
        assert_eq!(options.dtype, DtypePolicy::To(Dtype::BF16));
        assert_eq!(settings.in_force().len(), VARIABLES.len());
        assert_eq!(Settings::default().to_string(), "no setting");
    }

    #[test]
    fn switches_that_disagree_are_refused() {
        let refused = |variables: &[(&str, &str)]| {
            let error = Settings::from_variables(variables.iter().copied()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misuse);
            error.to_string()
        };
        let error = refused(&[("TENSORLIFT_MMAP", "1"), ("TENSORLIFT_MODE", "copy")]);
        assert!(
            error.contains("TENSORLIFT_MMAP and TENSORLIFT_MODE disagree"),
            "{error}"
        );
        refused(&[("TENSORLIFT_DIRECT", "1"), ("TENSORLIFT_IO_URING", "1")]);
        let error = refused(&[("TENSORLIFT_THREADS", "0"), ("TENSORLIFT_MMAP", "maybe")]);
        assert!(
            error.contains("from 1 on") && error.contains("true or false"),
            "{error}"
        );
        let agreeing = [
            ("TENSORLIFT_MMAP", "0"),
            ("TENSORLIFT_MODE", "copy"),
            ("TENSORLIFT_DIRECT", "0"),
        ];
        assert_eq!(
            Settings::from_variables(agreeing).unwrap().in_force().len(),
            2
        );
    }
}
