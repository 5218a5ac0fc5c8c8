//! What came out, as text.

use std::collections::BTreeMap;

use tensorlift_fixture_kit::hostile::{Case, Verdict};

use super::reader::Reader;
use super::verdict::Judgement;

type Line<'a> = (&'a Case, Vec<Judgement>);

/// The files that a reader whose misses count does not read as it must, one a line.
pub(super) fn misses(lines: &[Line<'_>], readers: &[Reader]) -> String {
    let mut text = String::new();
    for (case, judgements) in lines {
        for (judgement, reader) in judgements.iter().zip(readers) {
            if let Judgement::Missed(how) = judgement
                && reader.counts
            {
                let verdict = match case.verdict {
                    Verdict::Loads { .. } => "loads",
                    Verdict::Refused => "refused",
                    Verdict::Either => "either",
                };
                text.push_str(&format!(
                    "{} ({verdict}): {how}\n  {}\n",
                    case.name, case.why
                ));
            }
        }
    }
    text
}

/// How many files each reader reads as it must, by kind of file, in Markdown.
pub(super) fn counts(lines: &[Line<'_>], readers: &[Reader]) -> String {
    let mut kinds: BTreeMap<&str, Vec<(usize, usize)>> = BTreeMap::new();
    for (case, judgements) in lines {
        let kind = case.name.split('-').next().unwrap_or_default();
        // A reader that refuses everything does well with broken files.
        let verdict = match case.verdict {
            Verdict::Loads { .. } => "~1odd, must load",
            Verdict::Refused => "~2broken, must be refused",
            Verdict::Either => "~3either, but orderly",
        };
        for name in [kind, verdict, "~4all"] {
            let counts = kinds
                .entry(name)
                .or_insert_with(|| vec![(0, 0); readers.len()]);
            for (count, judgement) in counts.iter_mut().zip(judgements) {
                count.0 += usize::from(*judgement == Judgement::Right);
                count.1 += usize::from(*judgement != Judgement::NotAsked);
            }
        }
    }
    let names: Vec<&str> = readers.iter().map(|reader| reader.name).collect();
    let mut text = format!("| files | {} |\n", names.join(" | "));
    text.push_str(&format!("| --- |{}\n", " --- |".repeat(names.len())));
    for (kind, counts) in kinds {
        let cells: Vec<String> = counts
            .iter()
            .map(|(right, asked)| format!("{right} of {asked}"))
            .collect();
        text.push_str(&format!(
            "| {} | {} |\n",
            kind.trim_start_matches(['~', '1', '2', '3', '4']),
            cells.join(" | ")
        ));
    }
    text
}
