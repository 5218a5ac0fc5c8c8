//! Which setting is best, and by what evidence.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Start;
use super::candidates::{Axis, Candidate, WorkKind, options, variables};
use super::rounds::Measured;

/// What a single round must gain: there is no range to go by.
const GAIN: f64 = 1.05;

/// The best setting of those that were tried.
#[derive(Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Verdict {
    /// Where the files were.
    start: Start,
    /// What it sets, by the names of the settings; nothing for the defaults.
    set: BTreeMap<&'static str, String>,
    /// The same as options of `tensorlift load`.
    options: String,
    /// The same as environment variables.
    variables: String,
    /// Its median, in gigabytes (10⁹ bytes) per second.
    gigabytes_per_second: f64,
    /// How many times the defaults' rate that is.
    gain: f64,
    /// How much of what raw reads, or the bare pipeline of a device, reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    of_limit: Option<f64>,
    /// The evidence, in words.
    why: String,
}

/// The best candidate of each axis that was faster than the defaults.
pub(super) fn winners(all: &[Measured]) -> Vec<&Candidate> {
    let Some(defaults) = defaults(all) else {
        return Vec::new();
    };
    let axes = [Axis::Reader, Axis::Threads, Axis::Chunk];
    let best = axes.map(|axis| {
        let of_axis = all.iter().filter(|it| it.candidate.axis == axis);
        fastest(of_axis.filter(|it| is_faster(it, defaults)))
    });
    best.into_iter()
        .flatten()
        .map(|measured| &measured.candidate)
        .collect()
}

impl Verdict {
    /// `None` if the defaults were not measured.
    pub(super) fn of(start: Start, all: &[Measured]) -> Option<Self> {
        let defaults = defaults(all)?;
        let choices = [Axis::Reader, Axis::Threads, Axis::Chunk, Axis::Together];
        let faster = all
            .iter()
            .filter(|it| choices.contains(&it.candidate.axis) && is_faster(it, defaults));
        let best = fastest(faster).unwrap_or(defaults);
        let rate = best.median()?;
        let set = best.candidate.set.clone();
        let mut why = match set.is_empty() {
            true => "no other setting was faster in each of its rounds".to_owned(),
            false => format!(
                "each of its rounds ({}) was faster than each of the defaults' ({})",
                range(best),
                range(defaults)
            ),
        };
        let map = all.iter().find(|it| it.candidate.axis == Axis::Mapping);
        if let Some((map, rate)) = map.and_then(|map| Some((map, map.median()? / rate)))
            && is_faster(map, best)
        {
            why += &format!(
                "; --mode map, for files that nothing changes, reaches {rate:.2} times that"
            );
        }
        Some(Self {
            start,
            options: options(&set),
            variables: variables(&set),
            set,
            gigabytes_per_second: rate,
            gain: rate / defaults.median()?,
            of_limit: limit(all).map(|limit| rate / limit),
            why,
        })
    }

    /// One paragraph for people.
    pub(super) fn describe(&self) -> String {
        let Self {
            gigabytes_per_second: rate,
            gain,
            options,
            why,
            ..
        } = self;
        let limit = match self.of_limit {
            None => String::new(),
            Some(share) => format!(", {share:.2} of the limit"),
        };
        match self.set.is_empty() {
            true => format!("best: the defaults, {rate:.2} GB/s{limit}; {why}"),
            false => format!(
                "best: {options}, {rate:.2} GB/s{limit}, {gain:.2} times the defaults; {why}\n\
                 to set it: {options}\n       or: {}",
                self.variables
            ),
        }
    }
}

/// What the best load can be held against: the fastest bare pipeline to a device, or raw reads.
fn limit(all: &[Measured]) -> Option<f64> {
    let of = |kind| {
        let of_kind = all.iter().filter(|it| it.candidate.kind() == kind);
        fastest(of_kind)?.median()
    };
    of(WorkKind::Pipeline).or_else(|| of(WorkKind::Raw))
}

/// The defaults, as they were measured last.
fn defaults(all: &[Measured]) -> Option<&Measured> {
    let is_default = |it: &&Measured| it.candidate.axis == Axis::Defaults && !it.rates.is_empty();
    all.iter().rev().find(is_default)
}

fn fastest<'a>(all: impl Iterator<Item = &'a Measured>) -> Option<&'a Measured> {
    let rate = |it: &Measured| it.median().unwrap_or(0.0);
    all.max_by(|one, other| rate(one).total_cmp(&rate(other)))
        .filter(|it| !it.rates.is_empty())
}

/// Whether the slowest round of one was faster than the fastest of the other.
fn is_faster(one: &Measured, other: &Measured) -> bool {
    let factor = if one.rates.len() > 1 { 1.0 } else { GAIN };
    !one.rates.is_empty() && one.slowest() > other.fastest() * factor
}

fn range(measured: &Measured) -> String {
    format!("{:.2} to {:.2}", measured.slowest(), measured.fastest())
}

#[cfg(test)]
mod tests {
    use tensorlift_storage::measure::RawReads;

    use super::super::candidates::Work;
    use super::*;

    fn measured(axis: Axis, set: &[(&'static str, &str)], rates: &[f64]) -> Measured {
        let work = match axis {
            Axis::Limit => Work::Raw(RawReads::new(1, 1)),
            _ => Work::Load(Box::default()),
        };
        let set = set.iter().map(|(name, value)| (*name, (*value).to_owned()));
        Measured {
            candidate: Candidate {
                axis,
                work,
                set: set.collect(),
            },
            rates: rates.to_vec(),
            threads: None,
            readers: Vec::new(),
            not_run: None,
        }
    }

    #[test]
    fn a_setting_wins_only_if_each_of_its_rounds_is_faster() {
        let mut all = vec![
            measured(Axis::Defaults, &[], &[2.0, 2.2, 2.1]),
            measured(Axis::Threads, &[("threads", "8")], &[2.9, 2.15, 3.0]),
            measured(Axis::Mapping, &[("mode", "map")], &[9.0, 9.0, 9.0]),
            measured(Axis::Limit, &[], &[4.2, 4.2, 4.2]),
        ];
        assert!(winners(&all).is_empty());
        let verdict = Verdict::of(Start::Warm, &all).unwrap();
        assert_eq!((verdict.gain, verdict.of_limit), (1.0, Some(0.5)));
        let said = verdict.describe();
        assert!(said.starts_with("best: the defaults, 2.10 GB/s, 0.50 of the limit"));
        assert!(said.contains("--mode map"), "{said}");

        all.push(measured(
            Axis::Threads,
            &[("threads", "4")],
            &[2.4, 2.5, 2.3],
        ));
        all.push(measured(
            Axis::Chunk,
            &[("chunk-bytes", "16MiB")],
            &[2.3, 2.3, 2.3],
        ));
        let names: Vec<String> = winners(&all).iter().map(|it| Candidate::name(it)).collect();
        assert_eq!(names, ["--threads 4", "--chunk-bytes 16MiB"]);
        let said = Verdict::of(Start::Warm, &all).unwrap().describe();
        assert!(said.contains("best: --threads 4, 2.40 GB/s"), "{said}");
        assert!(said.contains("2.30 to 2.50") && said.contains("2.00 to 2.20"));
        assert!(said.ends_with("or: TENSORLIFT_THREADS=4"), "{said}");
    }

    #[test]
    fn one_round_has_to_gain_more_and_none_says_nothing() {
        let mut all = vec![
            measured(Axis::Defaults, &[], &[2.0]),
            measured(Axis::Reader, &[("reader", "direct")], &[2.05]),
        ];
        assert!(winners(&all).is_empty());
        all[1].rates = vec![2.2];
        assert_eq!(winners(&all).len(), 1);
        all[0].rates.clear();
        assert_eq!(Verdict::of(Start::Cold, &all), None);
    }
}
