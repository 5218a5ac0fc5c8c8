//! The rules by which tensors are placed.

use std::fmt;
use std::sync::Arc;

use tensorlift_tensor_meta::{Entry, Error, ErrorKind};

use super::memory::DeviceKey;
use crate::pattern::Pattern;

/// How tensors are divided among devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Division {
    /// Evenly over the GPUs if they hold everything, otherwise one device after the other. The
    /// default.
    #[default]
    Auto,
    /// So that the fullest device holds as little as possible.
    Balanced,
    /// One device after the other.
    Sequential,
}

/// How tensors are placed.
#[derive(Clone)]
pub struct DeviceMapOptions {
    pub(super) division: Division,
    pub(super) fixed: Vec<(Pattern, DeviceKey)>,
    pub(super) unsplit: Vec<Pattern>,
    pub(super) tied: Vec<Vec<String>>,
    pub(super) bytes_of: Arc<BytesOf>,
}

type BytesOf = dyn Fn(&Entry) -> Option<u64> + Send + Sync;

impl Default for DeviceMapOptions {
    fn default() -> Self {
        Self {
            division: Division::default(),
            fixed: Vec::new(),
            unsplit: Vec::new(),
            tied: Vec::new(),
            bytes_of: Arc::new(|_| None),
        }
    }
}

/// # How to place
impl DeviceMapOptions {
    /// How tensors are divided that no pattern places. Default: [`Division::Auto`].
    #[must_use]
    pub fn division(mut self, division: Division) -> Self {
        self.division = division;
        self
    }

    /// Places what matches the pattern on this device; if several patterns match, the one with the
    /// most literal characters decides.
    #[must_use]
    pub fn fix(mut self, pattern: impl Into<Pattern>, device: DeviceKey) -> Self {
        self.fixed.push((pattern.into(), device));
        self
    }

    /// Keeps each module whose name matches the pattern on one device.
    ///
    /// Layers, which are modules named by a number, are always kept whole, and so are the
    /// parameters of one module outside of layers.
    #[must_use]
    pub fn unsplit(mut self, pattern: impl Into<Pattern>) -> Self {
        self.unsplit.push(pattern.into());
        self
    }

    /// Keeps tensors together that the model ties; those that share bytes in the checkpoint are
    /// always together.
    #[must_use]
    pub fn tie(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.tied.push(names.into_iter().map(Into::into).collect());
        self
    }

    /// The bytes of tensors that are converted while they are loaded; `None` for the others.
    #[must_use]
    pub fn bytes_of(
        mut self,
        bytes: impl Fn(&Entry) -> Option<u64> + Send + Sync + 'static,
    ) -> Self {
        self.bytes_of = Arc::new(bytes);
        self
    }

    /// The module or parameter that a name is kept together with.
    pub(super) fn unit_name<'a>(&self, name: &'a str) -> &'a str {
        let modules = || name.match_indices('.').map(|(dot, _)| &name[..dot]);
        let is_unsplit = |module: &&str| {
            self.unsplit
                .iter()
                .any(|pattern| pattern.matches_whole(module))
        };
        let is_layer = |module: &&str| {
            let last = module.rsplit('.').next().unwrap_or(module);
            !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit())
        };
        modules()
            .find(is_unsplit)
            .or_else(|| modules().find(is_layer))
            .or_else(|| modules().next_back())
            .unwrap_or(name)
    }

    /// The device of the most specific pattern that matches.
    pub(super) fn fixed(&self, name: &str) -> Result<Option<DeviceKey>, Error> {
        let matching = || {
            self.fixed
                .iter()
                .filter(|(pattern, _)| pattern.matches(name))
        };
        let Some(most) = matching().map(|(pattern, _)| pattern.literals()).max() else {
            return Ok(None);
        };
        let best: Vec<_> = matching()
            .filter(|(pattern, _)| pattern.literals() == most)
            .collect();
        let device = best[0].1;
        if best.iter().all(|(_, other)| *other == device) {
            return Ok(Some(device));
        }
        let rules: Vec<String> = best
            .iter()
            .map(|(pattern, device)| format!("{pattern:?} = {device}", pattern = pattern.as_str()))
            .collect();
        let found = format!("rules contradict each other: {}", rules.join(", "));
        Err(Error::new(ErrorKind::Misuse, found)
            .with_tensor(name)
            .with_remedy("keep one of them, or write one with more literal characters"))
    }
}

impl fmt::Debug for DeviceMapOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceMapOptions")
            .field("division", &self.division)
            .field("fixed", &self.fixed)
            .field("unsplit", &self.unsplit)
            .field("tied", &self.tied)
            .finish_non_exhaustive()
    }
}
