//! The table of settings and the other names of their variables.

use tensorlift_loader::{Verify, parse_size};

use super::Settings;
use crate::WeightFormat;

/// What all variables begin with.
pub(super) const PREFIX: &str = "TENSORLIFT_";

/// The values of switches that are on or off.
const TRUTH: &str = "true|false";

/// A setting that variables and command lines can make.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Switch {
    /// Its name: `merge-gap-bytes`, which is `--merge-gap-bytes` on a command line.
    pub name: &'static str,
    /// The values that it takes: alternatives (`copy|map`), `N` for a number from 1 on, or `SIZE`
    /// for a size in bytes, as in `4MiB`.
    pub values: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// Whether plans depend on it, and not loads alone.
    pub plans: bool,
    /// Sets it; `None` for a value that it does not take.
    pub(super) set: fn(&mut Settings, &str) -> Option<()>,
}

/// Every setting.
pub const SWITCHES: &[Switch] = &[
    Switch {
        name: "mode",
        values: "copy|map",
        about: "Copy the bytes into memory, or view a populated mapping of the file",
        plans: true,
        set: |settings, value| {
            settings.options.mode = value.parse().ok()?;
            Some(())
        },
    },
    Switch {
        name: "merge-gap-bytes",
        values: "SIZE",
        about: "Unwanted bytes between two wanted ones that are read along",
        plans: true,
        set: |settings, value| {
            settings.options.merge_gap_bytes = size(value)?;
            Some(())
        },
    },
    Switch {
        name: "dtype",
        values: "keep|f64|f32|f16|bf16",
        about: "Convert tensors of F64, F32, F16 and BF16 to one of these; keep by default",
        plans: true,
        set: |settings, value| {
            settings.options.dtype = value.parse().ok()?;
            Some(())
        },
    },
    Switch {
        name: "preferred-format",
        values: "safetensors|torch",
        about: "Which files are taken where a folder has both formats; safetensors by default",
        plans: true,
        set: |settings, value| {
            settings.preferred_format = match value {
                "safetensors" => WeightFormat::Safetensors,
                "torch" => WeightFormat::Torch,
                _ => return None,
            };
            Some(())
        },
    },
    Switch {
        name: "fallback",
        values: TRUTH,
        about: "Take the other format where the preferred one cannot be opened",
        plans: true,
        set: |settings, value| {
            settings.fallback = truth(value)?;
            Some(())
        },
    },
    Switch {
        name: "device",
        values: "host|cuda:N|auto|null",
        about: "Where to: host, a GPU, auto (a GPU if there is one), or null (read and throw away)",
        plans: false,
        set: |settings, value| {
            let number = value.strip_prefix("cuda:");
            let is_gpu = number.is_some_and(|number| number.parse::<usize>().is_ok());
            let is_named = matches!(value, "host" | "cpu" | "cuda" | "auto" | "null");
            (is_gpu || is_named).then(|| settings.device = Some(value.to_owned()))
        },
    },
    Switch {
        name: "gds",
        values: "auto|on|off",
        about: "Whether a GPU reads files itself (GPUDirect Storage); auto tries it where it can pay",
        plans: false,
        set: |settings, value| {
            settings.gds = match value {
                "auto" => None,
                _ => Some(truth(value)?),
            };
            Some(())
        },
    },
    Switch {
        name: "reader",
        values: "auto|buffered|direct|uring",
        about: "How files are read when bytes are copied; chosen for each file by default",
        plans: false,
        set: |settings, value| {
            settings.options.reader = value.parse().ok()?;
            Some(())
        },
    },
    Switch {
        name: "page-cache",
        values: "keep|drop-after|bypass",
        about: "What the load leaves in the page cache; keep by default",
        plans: false,
        set: |settings, value| {
            settings.options.page_cache = value.parse().ok()?;
            Some(())
        },
    },
    Switch {
        name: "threads",
        values: "N",
        about: "Threads that read at once; chosen and adapted by default",
        plans: false,
        set: |settings, value| {
            settings.options.read_threads = Some(count(value)?);
            Some(())
        },
    },
    Switch {
        name: "chunk-bytes",
        values: "SIZE",
        about: "Bytes of one read",
        plans: false,
        set: |settings, value| {
            settings.options.chunk_bytes = usize::try_from(size(value)?).ok()?;
            Some(())
        },
    },
    Switch {
        name: "memory-bytes",
        values: "SIZE",
        about: "The most memory to allocate for tensors; what is free by default",
        plans: false,
        set: |settings, value| {
            settings.options.memory_bytes = Some(size(value)?);
            Some(())
        },
    },
    Switch {
        name: "staging-bytes",
        values: "SIZE",
        about: "The most memory of staging slots, on the way to devices that need them",
        plans: false,
        set: |settings, value| {
            let bytes = size(value)?;
            settings.limit(|limits| limits.staging_bytes = bytes);
            Some(())
        },
    },
    Switch {
        name: "open-shards",
        values: "N",
        about: "The most shards to read in turn",
        plans: false,
        set: |settings, value| {
            let shards = count(value)?;
            settings.limit(|limits| limits.open_shards = shards);
            Some(())
        },
    },
    Switch {
        name: "verify",
        values: TRUTH,
        about: "Check the CRC-32 of archive entries, and blobs of the Hugging Face cache, while reading",
        plans: false,
        set: |settings, value| {
            settings.options.verify = match truth(value)? {
                true => Verify::Crc32,
                false => Verify::Nothing,
            };
            Some(())
        },
    },
];

/// Another name of a variable.
pub(super) struct Alias {
    /// The name, without the prefix.
    pub(super) variable: &'static str,
    /// The setting that it makes.
    pub(super) name: &'static str,
    /// For variables that are on or off: the value that each means, if it means one.
    on_and_off: Option<(&'static str, Option<&'static str>)>,
}

/// Every other name.
pub(super) const ALIASES: &[Alias] = &[
    Alias::switch("MMAP", "mode", "map", Some("copy")),
    Alias::switch("DIRECT", "reader", "direct", None),
    Alias::switch("IO_URING", "reader", "uring", None),
    Alias::plain("FORMAT", "preferred-format"),
    Alias::plain("MEMORY", "memory-bytes"),
];

impl Alias {
    const fn plain(variable: &'static str, name: &'static str) -> Self {
        Self {
            variable,
            name,
            on_and_off: None,
        }
    }

    const fn switch(
        variable: &'static str,
        name: &'static str,
        on: &'static str,
        off: Option<&'static str>,
    ) -> Self {
        Self {
            variable,
            name,
            on_and_off: Some((on, off)),
        }
    }

    /// The value that the setting gets, if it gets one.
    pub(super) fn value<'v>(&self, value: &'v str) -> Result<Option<&'v str>, String> {
        match self.on_and_off {
            None => Ok(Some(value)),
            Some((on, off)) => match truth(value) {
                Some(true) => Ok(Some(on)),
                Some(false) => Ok(off),
                None => Err(expected(TRUTH)),
            },
        }
    }
}

impl Switch {
    /// The setting of this name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        SWITCHES.iter().find(|switch| switch.name == name)
    }

    /// The environment variable that sets it: `TENSORLIFT_MERGE_GAP_BYTES`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.to_uppercase().replace('-', "_"))
    }

    /// A value in the form in which values are compared.
    pub(super) fn normal(&self, value: &str) -> String {
        let value = value.trim().to_ascii_lowercase();
        match truth(&value).filter(|_| self.values == TRUTH) {
            Some(is_on) => is_on.to_string(),
            None => value,
        }
    }

    /// What it expects, for an error.
    pub(super) fn expected(&self) -> String {
        expected(self.values)
    }
}

fn expected(values: &str) -> String {
    match values {
        "N" => "a number from 1 on".to_owned(),
        "SIZE" => "a size, as in 4MiB".to_owned(),
        _ => values.replace('|', " or "),
    }
}

fn truth(value: &str) -> Option<bool> {
    match value {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn count(value: &str) -> Option<usize> {
    value.parse().ok().filter(|count| *count > 0)
}

fn size(value: &str) -> Option<u64> {
    parse_size(value).ok()
}
