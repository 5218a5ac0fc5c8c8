use std::collections::HashMap;
use std::ops::Range;

use tensorlift_loader::Cast;
use tensorlift_tensor_meta::{Catalog, Entry, Error, ErrorKind, Result};

use super::rules::{FillRules, Use};
use super::{DtypeMismatch, Missing, Parameter, Problems, ShapeMismatch, Skeleton};

/// The least similarity of a name that is suggested for a missing one (Jaro-Winkler).
const ALIKE: f64 = 0.8;

/// The most missing names with suggestions: each is compared with every unused name.
const OFFERED: usize = 50;

/// Which tensors of a checkpoint fill which parameters.
#[derive(Clone, Debug)]
pub struct Matched {
    /// The parameters that are filled, in the order of the skeleton.
    pub(crate) parameters: Vec<MatchedParameter>,
    /// Optional parameters that are absent.
    absent: Vec<String>,
}

/// What fills one parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MatchedParameter {
    /// The parameter.
    pub parameter: Parameter,
    /// The dimension along which its parts are joined.
    pub dim: usize,
    /// Its parts, in their order; one, unless tensors are fused.
    pub parts: Vec<SourcePart>,
    /// The parameter whose memory it shares, which is filled in its place.
    pub tied_to: Option<String>,
}

/// A tensor of a checkpoint, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourcePart {
    /// The name of the tensor in the checkpoint.
    pub name: String,
    /// The dimension along which it is divided and the indices of the part; `None` for all of it.
    pub range: Option<(usize, Range<usize>)>,
    shape: Vec<usize>,
}

/// The tensors that claim a parameter, by the name of the parameter.
#[derive(Default)]
struct Claims<'a> {
    wholes: Vec<&'a Entry>,
    /// By position among the parts.
    parts: HashMap<usize, Vec<&'a Entry>>,
    /// How many parts there are, and the dimension that joins them.
    joined: Option<(usize, usize)>,
    /// A tensor that is divided, the names of its parts and the dimension.
    splits: Vec<(&'a Entry, Vec<usize>, usize)>,
}

impl Skeleton {
    /// Finds out which tensors of a catalog fill which parameters; nothing is read.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] for rules that contradict themselves, and with
    /// [`Problems`] as its source, which lists **all** differences, if the catalog does not fill
    /// the skeleton.
    pub fn matched(&self, catalog: &Catalog, rules: &FillRules) -> Result<Matched> {
        let (matched, problems) = self.compared(catalog, rules)?;
        match problems.is_empty() {
            true => Ok(matched),
            false => Err(Error::new(ErrorKind::Misuse, problems)
                .with_remedy("rename tensors, ignore unused ones, or make parameters optional")),
        }
    }

    /// As [`matched`](Self::matched), but returns the differences beside the matches.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] for rules that contradict themselves.
    pub fn compared(&self, catalog: &Catalog, rules: &FillRules) -> Result<(Matched, Problems)> {
        rules.check()?;
        let mut problems = Problems::default();
        let claims = self.claims(catalog, rules, &mut problems)?;
        let mut parameters = Vec::with_capacity(self.parameters().len());
        let mut unclaimed = Vec::new();
        for (position, parameter) in self.parameters().iter().enumerate() {
            match claims.get(&position).filter(|claims| claims.are_whole()) {
                Some(claims) => {
                    parameters.extend(self.filled(parameter, claims, rules, &mut problems));
                }
                None => unclaimed.push(parameter),
            }
        }
        let filled: HashMap<&str, usize> = (parameters.iter().enumerate())
            .map(|(index, filled)| (filled.parameter.name.as_str(), index))
            .collect();
        let (mut tied, mut absent) = (Vec::new(), Vec::new());
        for parameter in unclaimed {
            let group = self.tied_to(&parameter.name);
            if let Some(index) = group.iter().find_map(|name| filled.get(name)) {
                tied.push(MatchedParameter {
                    parameter: parameter.clone(),
                    tied_to: Some(parameters[*index].parameter.name.clone()),
                    ..parameters[*index].clone()
                });
            } else if rules.is_optional(&parameter.name) {
                absent.push(parameter.name.clone());
            } else {
                let is_offered = problems.missing.len() < OFFERED;
                let nearest = is_offered.then(|| nearest(&parameter.name, &problems.unexpected));
                problems.missing.push(Missing {
                    name: parameter.name.clone(),
                    did_you_mean: nearest.flatten(),
                });
            }
        }
        parameters.extend(tied);
        problems.unexpected.retain(|name| !rules.is_ignored(name));
        Ok((Matched { parameters, absent }, problems))
    }

    /// Which entries claim each parameter.
    fn claims<'a>(
        &self,
        catalog: &'a Catalog,
        rules: &FillRules,
        problems: &mut Problems,
    ) -> Result<HashMap<usize, Claims<'a>>> {
        let names = Names::new(self, rules)?;
        let mut claims: HashMap<usize, Claims<'a>> = HashMap::new();
        let mut contested = Vec::new();
        for entry in catalog.entries() {
            let mut is_used = false;
            let used = match rules.use_of(entry.name()) {
                Ok(used) => used,
                Err(why) => {
                    contested.push(why);
                    continue;
                }
            };
            match used {
                Use::Whole(to) => {
                    if let Some(position) = names.find(&to, rules) {
                        claims.entry(position).or_default().wholes.push(entry);
                        is_used = true;
                    }
                }
                Use::Part {
                    to,
                    part,
                    parts,
                    dim,
                } => {
                    if let Some(position) = names.find(&to, rules) {
                        let claims = claims.entry(position).or_default();
                        claims.parts.entry(part).or_default().push(entry);
                        claims.joined = Some((parts, dim));
                        is_used = true;
                    }
                }
                Use::Split { to, dim } => {
                    let found = to.iter().map(|to| names.find(to, rules));
                    if let Some(positions) = found.collect::<Option<Vec<usize>>>() {
                        for position in &positions {
                            let claims = claims.entry(*position).or_default();
                            claims.splits.push((entry, positions.clone(), dim));
                        }
                        is_used = true;
                    }
                }
            }
            if !is_used {
                problems.unexpected.push(entry.name().to_owned());
            }
        }
        match contested.is_empty() {
            true => Ok(claims),
            false => {
                let found = format!("several rules fuse or split {}", contested.join(", "));
                Err(Error::new(ErrorKind::Misuse, found)
                    .with_remedy("write patterns so that one of them matches each tensor"))
            }
        }
    }

    /// What fills a parameter, if its claims agree with it.
    fn filled(
        &self,
        parameter: &Parameter,
        claims: &Claims<'_>,
        rules: &FillRules,
        problems: &mut Problems,
    ) -> Option<MatchedParameter> {
        let claimants = claims.names();
        if claims.count() > 1 {
            let name = parameter.name.clone();
            problems.ambiguous.push((name, claimants));
            return None;
        }
        let (dim, parts) = match (&claims.wholes[..], &claims.splits[..]) {
            ([entry], _) => (0, vec![SourcePart::whole(entry)]),
            (_, [(entry, positions, dim)]) => {
                let share = self.share(parameter, entry, positions, *dim);
                (*dim, share.into_iter().collect())
            }
            _ => {
                let (count, dim) = claims.joined.unwrap_or_default();
                let entries = (0..count).filter_map(|part| claims.parts[&part].first());
                (dim, entries.map(|entry| SourcePart::whole(entry)).collect())
            }
        };
        if joined_shape(&parts, dim).as_ref() != Some(&parameter.shape) {
            problems.shapes.push(ShapeMismatch {
                name: parameter.name.clone(),
                sources: claimants,
                expected: parameter.shape.clone(),
                found: claims
                    .entries()
                    .map(|entry| entry.shape().to_vec())
                    .collect(),
            });
            return None;
        }
        let mut fits = true;
        // If the parameter has no dtype, its parts must agree with the first.
        let expected = parameter
            .dtype
            .or(claims.entries().next().map(Entry::dtype))?;
        for entry in claims.entries() {
            let found = entry.dtype();
            let converts = rules.converts && Cast::between(found, expected).is_some();
            if found != expected && !converts {
                problems.dtypes.push(DtypeMismatch {
                    name: parameter.name.clone(),
                    source: entry.name().to_owned(),
                    expected,
                    found,
                });
                fits = false;
            }
        }
        let mut parameter = parameter.clone();
        parameter.dtype = Some(expected);
        fits.then_some(MatchedParameter {
            parameter,
            dim,
            parts,
            tied_to: None,
        })
    }

    /// The part of a divided tensor that a parameter is; `None` if the division does not add up.
    fn share(
        &self,
        parameter: &Parameter,
        entry: &Entry,
        positions: &[usize],
        dim: usize,
    ) -> Option<SourcePart> {
        let size = |position: &usize| {
            let shape = &self.parameters()[*position].shape;
            shape.get(dim).copied().unwrap_or(0)
        };
        let own = self.position(&parameter.name);
        let before = positions
            .iter()
            .take_while(|position| Some(**position) != own);
        let start = before.map(size).fold(0usize, usize::saturating_add);
        let total = positions
            .iter()
            .map(size)
            .fold(0usize, usize::saturating_add);
        let mut shape = entry.shape().to_vec();
        let divided = shape.get_mut(dim).filter(|size| **size == total)?;
        *divided = parameter.shape.get(dim).copied()?;
        let end = start + *divided;
        Some(SourcePart {
            name: entry.name().to_owned(),
            range: Some((dim, start..end)),
            shape,
        })
    }
}

impl Matched {
    /// What fills each parameter, in the order of the skeleton; those that are filled by the
    /// memory of others come last.
    #[must_use]
    pub fn parameters(&self) -> &[MatchedParameter] {
        &self.parameters
    }

    /// The tensors that fill the parameter of this name.
    #[must_use]
    pub fn source_names(&self, name: &str) -> Vec<&str> {
        let found = self
            .parameters
            .iter()
            .find(|filled| filled.parameter.name == name);
        let parts = found.into_iter().flat_map(|filled| &filled.parts);
        parts.map(|part| part.name.as_str()).collect()
    }

    /// The optional parameters that are absent from the checkpoint.
    #[must_use]
    pub fn absent(&self) -> &[String] {
        &self.absent
    }
}

impl SourcePart {
    fn whole(entry: &Entry) -> Self {
        Self {
            name: entry.name().to_owned(),
            range: None,
            shape: entry.shape().to_vec(),
        }
    }
}

impl Claims<'_> {
    /// How many tensors claim the parameter; parts of one parameter count as one.
    fn count(&self) -> usize {
        let parts = self.parts.values().map(Vec::len).max().unwrap_or(0);
        self.wholes.len() + self.splits.len() + parts
    }

    /// Whether all parts of the parameter are there.
    fn are_whole(&self) -> bool {
        let parts = self
            .joined
            .is_some_and(|(parts, _)| self.parts.len() == parts);
        !self.wholes.is_empty() || !self.splits.is_empty() || parts
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        let mut parts: Vec<(&usize, &Vec<&Entry>)> = self.parts.iter().collect();
        parts.sort_by_key(|(part, _)| **part);
        let wholes = self.wholes.iter().copied();
        let splits = self.splits.iter().map(|(entry, ..)| *entry);
        wholes.chain(splits).chain(
            parts
                .into_iter()
                .flat_map(|(_, entries)| entries.iter().copied()),
        )
    }

    fn names(&self) -> Vec<String> {
        self.entries()
            .map(|entry| entry.name().to_owned())
            .collect()
    }
}

/// The names of a skeleton, as they are and without what wraps them.
struct Names<'s> {
    skeleton: &'s Skeleton,
    unwrapped: HashMap<String, usize>,
}

impl<'s> Names<'s> {
    fn new(skeleton: &'s Skeleton, rules: &FillRules) -> Result<Self> {
        let mut unwrapped = HashMap::new();
        let mut alike = Vec::new();
        for (position, parameter) in skeleton.parameters().iter().enumerate() {
            let name = rules.unwrapped(&parameter.name);
            if let Some(other) = unwrapped.insert(name, position) {
                alike.push(format!(
                    "{} and {}",
                    skeleton.parameters()[other].name,
                    parameter.name
                ));
            }
        }
        match alike.is_empty() {
            true => Ok(Self {
                skeleton,
                unwrapped,
            }),
            false => {
                let found = format!(
                    "without their wrappers, names are equal: {}",
                    alike.join(", ")
                );
                Err(Error::new(ErrorKind::Misuse, found)
                    .with_remedy("name fewer wrappers, or rename tensors instead"))
            }
        }
    }

    fn find(&self, name: &str, rules: &FillRules) -> Option<usize> {
        let exact = self.skeleton.position(name);
        exact.or_else(|| self.unwrapped.get(&rules.unwrapped(name)).copied())
    }
}

/// The shape of parts joined along a dimension; `None` if their other dimensions differ.
fn joined_shape(parts: &[SourcePart], dim: usize) -> Option<Vec<usize>> {
    let mut shape = parts.first()?.shape.clone();
    for part in &parts[1..] {
        let added = *part.shape.get(dim)?;
        let mut rest = part.shape.clone();
        *rest.get_mut(dim)? = *shape.get(dim)?;
        if rest != shape {
            return None;
        }
        shape[dim] = shape[dim].checked_add(added)?;
    }
    Some(shape)
}

fn nearest(name: &str, others: &[String]) -> Option<String> {
    let alike = |other: &String| strsim::jaro_winkler(name, other);
    let nearest = others
        .iter()
        .max_by(|one, other| alike(one).total_cmp(&alike(other)));
    nearest.filter(|other| alike(other) >= ALIKE).cloned()
}
