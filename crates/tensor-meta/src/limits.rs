/// Ceilings for untrusted input.
///
/// On by default, generous enough for every checkpoint we know of. A file that crosses one is
/// refused with [`ErrorKind::LimitExceeded`](crate::ErrorKind::LimitExceeded) before the memory is
/// spent.
///
/// ```
/// use tensorlift_tensor_meta::Limits;
///
/// let mut limits = Limits::default();
/// limits.header_bytes = 1 << 20;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of a safetensors header or an index file. Default: 100,000,000, the format's own cap.
    pub header_bytes: u64,
    /// Tensors listed by one file. Default: 2,000,000.
    pub tensors: usize,
    /// Lines of metadata in one file. Default: 65,536.
    pub metadata_entries: usize,
    /// Dimensions of a tensor. Default: 64, the most that PyTorch makes.
    pub rank: usize,
    /// Bytes of a tensor name. Default: 65,536.
    pub name_bytes: usize,
    /// Entries of an archive's directory. Default: 4,000,000.
    pub archive_entries: u64,
    /// Bytes of all pickles of a file together. Default: 512 MiB.
    pub pickle_bytes: u64,
    /// Pickle opcodes executed for one file. Default: 200,000,000.
    pub pickle_opcodes: u64,
    /// Objects a pickle makes. Default: 50,000,000, and never more than the pickle has bytes.
    pub pickle_objects: usize,
    /// Slots of a pickle's memo. Default: 50,000,000, and never more than the pickle has bytes.
    pub pickle_memo: usize,
    /// Nesting of a pickle's objects. Default: 10,000.
    pub pickle_depth: usize,
    /// Bytes of one string or byte string in a pickle. Default: 256 MiB.
    pub pickle_string_bytes: usize,
    /// Bytes of one integer in a pickle. Default: 4,096.
    pub pickle_integer_bytes: usize,
    /// Objects visited when shared references are followed to name tensors and to build values.
    /// Default: 4,000,000.
    pub expanded_nodes: usize,
    /// Memory that describing a PyTorch file may take beyond the file's own size, in bytes.
    /// Default: 40 MiB, which leaves room for the rest of a load within 64 MiB.
    pub description_bytes: u64,
    /// Bytes that compressed archive entries may inflate to, together. Default: 64 GiB; the memory
    /// ceiling of the load applies too.
    pub inflated_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 100_000_000,
            tensors: 2_000_000,
            metadata_entries: 1 << 16,
            rank: 64,
            name_bytes: 1 << 16,
            archive_entries: 4_000_000,
            pickle_bytes: 512 << 20,
            pickle_opcodes: 200_000_000,
            pickle_objects: 50_000_000,
            pickle_memo: 50_000_000,
            pickle_depth: 10_000,
            pickle_string_bytes: 256 << 20,
            pickle_integer_bytes: 4096,
            expanded_nodes: 4_000_000,
            description_bytes: 40 << 20,
            inflated_bytes: 64 << 30,
        }
    }
}

type SetLimit = fn(&mut Limits, u64);

/// Every ceiling, by the name of its field.
const BY_NAME: [(&str, SetLimit); 16] = [
    ("header_bytes", |limits, value| limits.header_bytes = value),
    ("tensors", |limits, value| limits.tensors = whole(value)),
    ("metadata_entries", |limits, value| {
        limits.metadata_entries = whole(value);
    }),
    ("rank", |limits, value| limits.rank = whole(value)),
    ("name_bytes", |limits, value| {
        limits.name_bytes = whole(value);
    }),
    ("archive_entries", |limits, value| {
        limits.archive_entries = value;
    }),
    ("pickle_bytes", |limits, value| limits.pickle_bytes = value),
    ("pickle_opcodes", |limits, value| {
        limits.pickle_opcodes = value;
    }),
    ("pickle_objects", |limits, value| {
        limits.pickle_objects = whole(value);
    }),
    ("pickle_memo", |limits, value| {
        limits.pickle_memo = whole(value);
    }),
    ("pickle_depth", |limits, value| {
        limits.pickle_depth = whole(value);
    }),
    ("pickle_string_bytes", |limits, value| {
        limits.pickle_string_bytes = whole(value);
    }),
    ("pickle_integer_bytes", |limits, value| {
        limits.pickle_integer_bytes = whole(value);
    }),
    ("expanded_nodes", |limits, value| {
        limits.expanded_nodes = whole(value);
    }),
    ("description_bytes", |limits, value| {
        limits.description_bytes = value;
    }),
    ("inflated_bytes", |limits, value| {
        limits.inflated_bytes = value;
    }),
];

/// A count larger than the address space is no limit.
fn whole(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// # By name
impl Limits {
    /// The names of all ceilings, as front ends spell them: those of the fields.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BY_NAME.iter().map(|(name, _)| *name)
    }

    /// Sets the ceiling of this name.
    ///
    /// ```
    /// use tensorlift_tensor_meta::Limits;
    ///
    /// let mut limits = Limits::default();
    /// limits.set("name_bytes", 1_000_000).unwrap();
    /// assert_eq!(limits.name_bytes, 1_000_000);
    /// ```
    ///
    /// # Errors
    /// What was expected, for a name that is none of [`names`](Self::names).
    pub fn set(&mut self, name: &str, value: u64) -> Result<(), String> {
        let known = BY_NAME.iter().find(|(known, _)| *known == name);
        let (_, set) = known.ok_or_else(|| {
            let names: Vec<_> = Self::names().collect();
            format!("expected one of {}, found {name:?}", names.join(", "))
        })?;
        set(self, value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_has_a_name() {
        let shown = format!("{:?}", Limits::default());
        assert_eq!(shown.matches(": ").count(), BY_NAME.len(), "{shown}");
        for name in Limits::names() {
            let mut limits = Limits::default();
            limits.set(name, 7).unwrap();
            let shown = format!("{limits:?}");
            assert!(shown.contains(&format!("{name}: 7")), "{name}");
        }
        let refused = Limits::default().set("names", 7).unwrap_err();
        assert!(refused.contains("name_bytes") && refused.contains("\"names\""));
    }
}
