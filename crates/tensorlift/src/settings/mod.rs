//! Settings of loads from environment variables and command lines, by one table.
//!
//! | variable | values | what it sets |
//! | --- | --- | --- |
//! | `TENSORLIFT_MODE` | `copy`, `map` | [`LoadOptions::mode`] |
//! | `TENSORLIFT_MERGE_GAP_BYTES` | a size, as in `4MiB` | [`LoadOptions::merge_gap_bytes`] |
//! | `TENSORLIFT_DTYPE` | `keep`, `f64`, `f32`, `f16`, `bf16` | [`LoadOptions::dtype`] |
//! | `TENSORLIFT_PREFERRED_FORMAT` | `safetensors`, `torch` | [`OpenOptions::preferred_format`] |
//! | `TENSORLIFT_FALLBACK` | `true`, `false` | [`OpenOptions::fallback`] |
//! | `TENSORLIFT_DEVICE` | `host`, `cuda:N`, `auto`, `null` | [`Settings::device`] |
//! | `TENSORLIFT_GDS` | `auto`, `on`, `off` | [`Settings::gds`] |
//! | `TENSORLIFT_READER` | `auto`, `buffered`, `direct`, `uring` | [`LoadOptions::reader`] |
//! | `TENSORLIFT_PAGE_CACHE` | `keep`, `drop-after`, `bypass` | [`LoadOptions::page_cache`] |
//! | `TENSORLIFT_THREADS` | a number from 1 on | [`LoadOptions::read_threads`] |
//! | `TENSORLIFT_CHUNK_BYTES` | a size | [`LoadOptions::chunk_bytes`] |
//! | `TENSORLIFT_MEMORY_BYTES` | a size | [`LoadOptions::memory_bytes`] |
//! | `TENSORLIFT_STAGING_BYTES` | a size | [`BudgetLimits::staging_bytes`] |
//! | `TENSORLIFT_OPEN_SHARDS` | a number from 1 on | [`BudgetLimits::open_shards`] |
//! | `TENSORLIFT_VERIFY` | `true`, `false` | [`LoadOptions::verify`] |
//!
//! Other names for the same:
//!
//! | variable | is the same as |
//! | --- | --- |
//! | `TENSORLIFT_MMAP=true`, `false` | `TENSORLIFT_MODE=map`, `copy` |
//! | `TENSORLIFT_DIRECT=true` | `TENSORLIFT_READER=direct` |
//! | `TENSORLIFT_IO_URING=true` | `TENSORLIFT_READER=uring` |
//! | `TENSORLIFT_FORMAT` | `TENSORLIFT_PREFERRED_FORMAT` |
//! | `TENSORLIFT_MEMORY` | `TENSORLIFT_MEMORY_BYTES` |
//!
//! `true` may be `1`, `yes` or `on`, and `false` `0`, `no` or `off`.
//! An empty variable counts as unset.
//! [`SWITCHES`] is the table as data; the command line makes its options of it.
//!
//! ```
//! use tensorlift::Checkpoint;
//! use tensorlift::settings::Settings;
//!
//! # fn main() -> tensorlift::Result<()> {
//! let settings = Settings::from_variables([("TENSORLIFT_MMAP", "1"), ("TENSORLIFT_DTYPE", "")])?;
//! assert_eq!(settings.to_string(), "mode=map (TENSORLIFT_MMAP)");
//! let checkpoint = Checkpoint::options().settings(&settings).open("fixtures/tiny-model")?;
//! let loaded = checkpoint.loader().settings(&settings).load()?;
//! assert_eq!(loaded.report().settings, settings.in_force());
//! # Ok(())
//! # }
//! ```
//!
//! [`OpenOptions::preferred_format`]: crate::OpenOptions::preferred_format
//! [`OpenOptions::fallback`]: crate::OpenOptions::fallback

mod table;

use std::fmt;

use tensorlift_loader::{Budget, BudgetLimits, LoadOptions};
use tensorlift_tensor_meta::{Error, ErrorKind, Result};

use crate::{Loader, OpenOptions, WeightFormat};
use table::{ALIASES, PREFIX};

pub use table::{SWITCHES, Switch};
pub use tensorlift_loader::Setting;

/// What environment variables and a command line set.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    options: LoadOptions,
    limits: BudgetLimits,
    preferred_format: WeightFormat,
    fallback: bool,
    device: Option<String>,
    gds: Option<bool>,
    in_force: Vec<Setting>,
}

/// # Making
impl Settings {
    /// The settings of this process's environment.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] for values that a setting does not take, and for variables that
    /// disagree; the error names all of them.
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
        let (mut found, mut wrong) = (Vec::new(), Vec::new());
        for (variable, value) in variables {
            let (variable, value) = (variable.as_ref(), value.as_ref().trim());
            if value.is_empty() {
                continue;
            }
            match meaning(variable, value) {
                Ok(setting) => found.extend(setting),
                Err(expected) => wrong.push(refusal(variable, value, &expected)),
            }
        }
        found.sort_by(|one: &Setting, other| one.source.cmp(&other.source));
        wrong.extend(conflicts(&found));
        Self::default().with_all(
            found,
            wrong,
            "change these environment variables, or unset them",
        )
    }

    /// These settings under those of a command line, which come first: the name of each, its
    /// value, and the option that an error is to name.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] for unknown names and for values that a setting does not take; the
    /// error names all of them.
    pub fn with<'s>(
        mut self,
        settings: impl IntoIterator<Item = (&'s str, &'s str, &'s str)>,
    ) -> Result<Self> {
        let (mut found, mut wrong) = (Vec::new(), Vec::new());
        for (name, value, source) in settings {
            match Switch::named(name) {
                Some(switch) => found.push(Setting::new(switch.name, switch.normal(value), source)),
                None => wrong.push(format!("{source}: there is no setting {name:?}")),
            }
        }
        let is_given = |name| found.iter().any(|setting: &Setting| setting.name == name);
        self.in_force.retain(|setting| !is_given(setting.name));
        self.with_all(found, wrong, "change these options, or leave them out")
    }

    /// Sets all that was found, unless something is wrong.
    fn with_all(
        mut self,
        found: Vec<Setting>,
        mut wrong: Vec<String>,
        remedy: &'static str,
    ) -> Result<Self> {
        for setting in found {
            let Setting { value, source, .. } = &setting;
            let switch = Switch::named(setting.name);
            if let Some(switch) = switch.filter(|it| (it.set)(&mut self, value).is_none()) {
                wrong.push(refusal(source, value, &switch.expected()));
            }
            self.in_force.push(setting);
        }
        match wrong.is_empty() {
            true => Ok(self),
            false => Err(Error::new(ErrorKind::Misuse, wrong.join("; ")).with_remedy(remedy)),
        }
    }

    /// Changes the limits of the budget that loads with these settings share.
    fn limit(&mut self, change: impl FnOnce(&mut BudgetLimits)) {
        change(&mut self.limits);
        self.options.budget = Some(Budget::new(self.limits.clone()));
    }
}

/// # Asking
impl Settings {
    /// The load options, with defaults where nothing is set.
    #[must_use]
    pub fn options(&self) -> LoadOptions {
        self.options.clone()
    }

    /// Where tensors go, if that is set: `host`, `cpu`, `cuda`, `cuda:N`, `auto` or `null`.
    /// Programs that choose devices ask for it; [`Loader::settings`] does not set it.
    #[must_use]
    pub fn device(&self) -> Option<&str> {
        self.device.as_deref()
    }

    /// Whether a GPU reads files itself; `None` where it can pay. Programs that make CUDA devices
    /// ask for it.
    #[must_use]
    pub fn gds(&self) -> Option<bool> {
        self.gds
    }

    /// What is set, by whom.
    #[must_use]
    pub fn in_force(&self) -> &[Setting] {
        &self.in_force
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
            write!(f, "{comma}{setting}")?;
        }
        Ok(())
    }
}

/// # Settings
impl OpenOptions {
    /// Opens by these settings: the preferred format, and whether the other one may be taken.
    #[must_use]
    pub fn settings(self, settings: &Settings) -> Self {
        self.preferred_format(settings.preferred_format)
            .fallback(settings.fallback)
    }
}

/// # Settings
impl Loader<'_> {
    /// Loads by these settings, in place of options that were given before; the report lists
    /// them.
    pub fn settings(mut self, settings: &Settings) -> Self {
        self.options = settings.options();
        self.in_force = settings.in_force.clone();
        self
    }
}

/// The setting that a variable makes, if it is one of ours.
fn meaning(variable: &str, value: &str) -> Result<Option<Setting>, String> {
    let Some(name) = variable.strip_prefix(PREFIX) else {
        return Ok(None);
    };
    if let Some(alias) = ALIASES.iter().find(|alias| alias.variable == name) {
        let value = value.to_ascii_lowercase();
        let value = alias.value(&value)?;
        return Ok(value.map(|value| Setting::new(alias.name, value, variable)));
    }
    let switch = SWITCHES.iter().find(|switch| switch.variable() == variable);
    Ok(switch.map(|switch| Setting::new(switch.name, switch.normal(value), variable)))
}

/// Settings that several variables make, with different values.
fn conflicts(found: &[Setting]) -> Vec<String> {
    let mut conflicts = Vec::new();
    for (index, one) in found.iter().enumerate() {
        let others = found[index + 1..].iter();
        for other in others.filter(|it| it.name == one.name && it.value != one.value) {
            conflicts.push(format!("{one} and {other} disagree"));
        }
    }
    conflicts
}

fn refusal(source: &str, value: &str, expected: &str) -> String {
    format!("{source}={value:?} (expected {expected})")
}

#[cfg(test)]
mod tests {
    use tensorlift_loader::{DtypePolicy, Mode, Reader, Verify};
    use tensorlift_tensor_meta::Dtype;

    use super::*;

    #[test]
    fn every_variable_sets_its_setting() {
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
            ("TENSORLIFT_PREFERRED_FORMAT", "torch"),
            ("TENSORLIFT_FALLBACK", "1"),
            ("TENSORLIFT_DEVICE", "cuda:1"),
            ("TENSORLIFT_GDS", "off"),
            ("TENSORLIFT_STAGING_BYTES", "8MiB"),
            ("TENSORLIFT_OPEN_SHARDS", "2"),
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
        assert_eq!(
            (settings.preferred_format, settings.fallback),
            (WeightFormat::Torch, true)
        );
        assert_eq!(
            (settings.device(), settings.gds()),
            (Some("cuda:1"), Some(false))
        );
        let limits = &settings.limits;
        assert_eq!((limits.staging_bytes, limits.open_shards), (8 << 20, 2));
        assert!(options.budget.is_some());
        assert_eq!(settings.in_force().len(), SWITCHES.len());
        assert_eq!(Settings::default().to_string(), "no setting");
    }

    #[test]
    fn the_page_lists_every_variable() {
        let page = include_str!("mod.rs");
        let page = page.split("mod table;").next().unwrap();
        for switch in SWITCHES {
            assert!(page.contains(&format!("//! | `{}` |", switch.variable())));
        }
        for alias in ALIASES {
            let variable = format!("//! | `{PREFIX}{}", alias.variable);
            assert!(page.contains(&variable), "{variable}");
            assert!(Switch::named(alias.name).is_some(), "{}", alias.name);
        }
    }

    fn refused(variables: &[(&str, &str)]) -> String {
        let error = Settings::from_variables(variables.iter().copied()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misuse);
        error.to_string()
    }

    #[test]
    fn variables_that_disagree_are_refused() {
        let error = refused(&[("TENSORLIFT_MMAP", "1"), ("TENSORLIFT_MODE", "copy")]);
        let both = "mode=map (TENSORLIFT_MMAP) and mode=copy (TENSORLIFT_MODE) disagree";
        assert!(error.contains(both), "{error}");
        refused(&[("TENSORLIFT_DIRECT", "1"), ("TENSORLIFT_IO_URING", "1")]);
        refused(&[
            ("TENSORLIFT_FORMAT", "torch"),
            ("TENSORLIFT_PREFERRED_FORMAT", "safetensors"),
        ]);
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

    #[test]
    fn values_that_there_are_not_are_refused_together() {
        let error = refused(&[("TENSORLIFT_THREADS", "0"), ("TENSORLIFT_MMAP", "maybe")]);
        assert!(
            error.contains("from 1 on") && error.contains("true or false"),
            "{error}"
        );
        for switch in SWITCHES {
            let error = refused(&[(&switch.variable(), "so-so")]);
            assert!(error.contains("so-so"), "{error}");
            let empty = Settings::from_variables([(switch.variable(), " ")]).unwrap();
            assert!(empty.in_force().is_empty());
        }
    }

    #[test]
    fn a_command_line_comes_before_variables() {
        let variables = [("TENSORLIFT_MODE", "map"), ("TENSORLIFT_THREADS", "3")];
        let settings = Settings::from_variables(variables).unwrap();
        let settings = settings.with([("mode", "copy", "--mode")]).unwrap();
        assert_eq!(settings.options().mode, Mode::Copy);
        assert_eq!(
            settings.to_string(),
            "threads=3 (TENSORLIFT_THREADS), mode=copy (--mode)"
        );
        let wrong = [("mode", "so-so", "--mode"), ("modus", "x", "--modus")];
        let error = settings.with(wrong).unwrap_err().to_string();
        assert!(
            error.contains("expected copy or map") && error.contains("\"modus\""),
            "{error}"
        );
    }
}
