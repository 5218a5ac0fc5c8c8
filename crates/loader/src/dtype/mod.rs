//! The dtypes of loaded tensors.

mod cast;
mod float8;

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use tensorlift_tensor_meta::{Catalog, Dtype, Entry, Error, ErrorKind};

pub use cast::Cast;

/// The dtypes of loaded tensors.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum DtypePolicy {
    /// As in the file. The default.
    #[default]
    Keep,
    /// This one, for tensors of F64, F32, F16 and BF16.
    ///
    /// All other tensors keep their dtype, and so do the scales of quantized ones: floats that are
    /// named as a scale, beside a tensor of 8 bits or less.
    To(Dtype),
    /// The result of the function for each entry, among the floats of whole bytes.
    By(Arc<DtypeOf>),
}

type DtypeOf = dyn Fn(&Entry) -> Dtype + Send + Sync;

/// The dtype that a policy gives each entry of a catalog, by position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Casts {
    /// Those that change; empty where none does.
    casts: Vec<Option<Cast>>,
    kept: Vec<usize>,
}

impl DtypePolicy {
    /// The policy of a function.
    pub fn by(dtype: impl Fn(&Entry) -> Dtype + Send + Sync + 'static) -> Self {
        Self::By(Arc::new(dtype))
    }

    /// The dtype of each entry under the policy.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] for a target of `To` other than these four; [`ErrorKind::Unsupported`]
    /// if `By` requests a cast from or to a type other than floats of whole bytes.
    pub fn casts(&self, catalog: &Catalog) -> Result<Casts, Error> {
        match self {
            Self::Keep => Ok(Casts::default()),
            Self::To(dtype) if !is_common_float(*dtype) => {
                let found = format!("expected F64, F32, F16 or BF16 as a dtype, found {dtype}");
                Err(Error::new(ErrorKind::Misuse, found)
                    .with_remedy("request other dtypes by a function, tensor by tensor"))
            }
            Self::To(dtype) => {
                let scales = Scales::of(catalog);
                let target = |entry: &Entry| match is_common_float(entry.dtype()) {
                    true if !scales.contains(entry) => *dtype,
                    _ => entry.dtype(),
                };
                Casts::new(catalog, target, |entry| entry.dtype() != *dtype)
            }
            Self::By(dtype) => Casts::new(catalog, |entry| dtype(entry), |_| false),
        }
    }
}

/// `keep`, or the name of one of the four dtypes that [`To`](DtypePolicy::To) takes, in any case.
impl FromStr for DtypePolicy {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match Dtype::from_name(&name.to_ascii_uppercase()) {
            Some(dtype) if is_common_float(dtype) => Ok(Self::To(dtype)),
            _ if name.eq_ignore_ascii_case("keep") => Ok(Self::Keep),
            _ => Err(format!(
                "expected keep, f64, f32, f16 or bf16, found {name:?}"
            )),
        }
    }
}

/// Functions are equal if they are the same function.
impl PartialEq for DtypePolicy {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Keep, Self::Keep) => true,
            (Self::To(one), Self::To(other)) => one == other,
            (Self::By(one), Self::By(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Eq for DtypePolicy {}

impl fmt::Debug for DtypePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep => f.write_str("Keep"),
            Self::To(dtype) => write!(f, "To({dtype})"),
            Self::By(_) => f.write_str("By(..)"),
        }
    }
}

impl Casts {
    fn new(
        catalog: &Catalog,
        target: impl Fn(&Entry) -> Dtype,
        is_kept: impl Fn(&Entry) -> bool,
    ) -> Result<Self, Error> {
        let mut casts = Vec::with_capacity(catalog.len());
        let mut kept = Vec::new();
        for (position, entry) in catalog.entries().iter().enumerate() {
            let (from, to) = (entry.dtype(), target(entry));
            let cast = Cast::between(from, to);
            if cast.is_none() && from != to {
                let found = format!("{from} cannot be converted to {to} while loading");
                return Err(Error::new(ErrorKind::Unsupported, found)
                    .with_tensor(entry.name())
                    .with_remedy("keep its dtype, or convert it after loading"));
            }
            if cast.is_none() && is_kept(entry) {
                kept.push(position);
            }
            casts.push(cast);
        }
        if casts.iter().all(Option::is_none) {
            casts.clear();
        }
        Ok(Self { casts, kept })
    }

    /// The cast of the entry at this position in the catalog.
    #[must_use]
    pub fn of(&self, position: usize) -> Option<Cast> {
        self.casts.get(position).copied().flatten()
    }

    /// The dtype of an entry once it is loaded.
    #[must_use]
    pub fn of_entry(&self, catalog: &Catalog, entry: &Entry) -> Dtype {
        let position = match self.casts.is_empty() {
            true => None,
            false => catalog.position(entry.name()),
        };
        let cast = position.and_then(|position| self.of(position));
        cast.map_or(entry.dtype(), Cast::to)
    }

    /// The entries that keep a dtype other than the one asked for, by position in the catalog.
    #[must_use]
    pub fn kept(&self) -> &[usize] {
        &self.kept
    }
}

/// Whether models compute in a dtype.
fn is_common_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// The modules that have a quantized tensor.
struct Scales<'a> {
    modules: HashSet<&'a str>,
}

impl<'a> Scales<'a> {
    fn of(catalog: &'a Catalog) -> Self {
        let quantized = |entry: &&Entry| {
            let dtype = entry.dtype();
            let is_integer = matches!(dtype, Dtype::I8 | Dtype::U8 | Dtype::Bool);
            dtype.bits() <= 8 && !is_integer || dtype == Dtype::QInt32
        };
        let entries = catalog.entries().iter().filter(quantized);
        // A quantized PyTorch tensor has its scale below its own name.
        let modules = entries.flat_map(|entry| [entry.name(), module(entry.name()).0]);
        let modules = modules.filter(|module| !module.is_empty());
        Self {
            modules: modules.collect(),
        }
    }

    /// Whether an entry is the scale of a quantized tensor.
    fn contains(&self, entry: &Entry) -> bool {
        let (module, name) = module(entry.name());
        name.contains("scale") && self.modules.contains(module)
    }
}

/// The module of a parameter, and the parameter's own name.
fn module(name: &str) -> (&str, &str) {
    name.rsplit_once('.').unwrap_or(("", name))
}
