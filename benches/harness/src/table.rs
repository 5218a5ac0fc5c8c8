//! Results as text.

use std::fmt::Write;

use crate::engine::{Mode, Program};
use crate::results::{Measured, Results, Row, Run};
use crate::stats::{Digits, Spread};

/// Those that say nothing of any engine are left out.
const COLUMNS: [&str; 12] = [
    "engine",
    "seconds",
    "rounds",
    "second load",
    "GB/s",
    "of the limit",
    "time / tensorlift's",
    "memory / bytes",
    "device memory / bytes",
    "pinned, MB",
    "of it starting",
    "how",
];

/// A case in columns.
pub(crate) fn for_terminal(measured: &Measured) -> String {
    let (head, rows) = without_empty(&COLUMNS.map(str::to_owned), &cells(measured));
    let lines = [vec![head], rows].concat();
    let width = |column: usize| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut text = format!("\n{}\n", title(measured));
    for line in &lines {
        let cells = line.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        writeln!(text, "  {}", line.join("  ").trim_end()).expect("memory takes all");
    }
    text
}

/// All cases as Markdown.
pub(crate) fn details(results: &Results) -> String {
    let mut text = String::from("# Every case, every engine\n\n");
    text.push_str("`cargo xtask bench` writes this page; BENCHMARKS.md explains it.\n\n");
    text.push_str(&format!("Machine: {}.\n", results.machine));
    for case in &results.cases {
        text.push_str(&format!("\n## {}\n\n", title(case)));
        if let Some(why) = &case.not_run {
            text.push_str(&format!("Not run: {why}.\n"));
            continue;
        }
        text.push_str(&markdown(&COLUMNS.map(str::to_owned), &cells(case)));
    }
    text
}

/// The main rows: for each case tensorlift, the limit and the best peers.
pub(crate) fn summary(results: &Results) -> String {
    let head = [
        "case",
        "limit, GB/s",
        "tensorlift, GB/s",
        "tensorlift, seconds",
        "of the limit",
        "fastest Rust peer",
        "fastest Python peer",
        "memory / bytes",
        "device memory / bytes",
    ];
    let mut lines = Vec::new();
    let cases = results.cases.iter().filter(|case| case.series.is_none());
    for case in cases {
        for mode in [Mode::Copy, Mode::Map] {
            let Some(ours) = case.ours(mode) else {
                continue;
            };
            let limit = case.limit(mode);
            let peer = |programs: &[Program]| {
                let peers = case.best().into_iter();
                let peers = peers.filter(|row| {
                    programs.contains(&row.program)
                        && row.mode == mode
                        && is_peer(row)
                        && is_resident(case, row)
                });
                let timed = peers.filter_map(|row| Some((row.times(ours)?, row.seconds()?, row)));
                let best = timed.min_by(|one, other| one.1.median.total_cmp(&other.1.median));
                best.map_or_else(String::new, |(times, _, row)| {
                    format!("{}: {} times as long", row.engine, Digits(times.median))
                })
            };
            lines.push([
                match mode {
                    Mode::Copy => case.name.clone(),
                    Mode::Map => format!("{}, mapped", case.name),
                },
                limit
                    .and_then(|row| speed(case, row))
                    .map_or_else(String::new, |it| it.to_string()),
                speed(case, ours).map_or_else(String::new, |it| it.to_string()),
                ours.seconds()
                    .map_or_else(String::new, |it| Digits(it.median).to_string()),
                limit.map_or_else(String::new, |limit| share(limit, ours)),
                peer(&[Program::Engines, Program::Peers]),
                peer(&[Program::Python]),
                memory(case, ours),
                device_memory(case, ours),
            ]);
        }
    }
    let mut dates: Vec<&str> = results.cases.iter().map(|case| &*case.date).collect();
    dates.sort_unstable();
    let dates = match (dates.first(), dates.last()) {
        (Some(first), Some(last)) if first != last => format!("{first} to {last}"),
        (Some(only), _) => (*only).to_owned(),
        _ => String::new(),
    };
    let rounds = results
        .cases
        .iter()
        .flat_map(|case| &case.rows)
        .map(|row| row.runs.len());
    format!(
        "{}, {dates}; up to {} rounds.\n\n{}",
        results.machine,
        rounds.max().unwrap_or(0),
        markdown(&head.map(str::to_owned), &lines)
    )
}

fn title(case: &Measured) -> String {
    let bytes = Digits(case.bytes as f64 / 1e6);
    format!("{}: {} tensors, {bytes} MB", case.name, case.tensors)
}

fn cells(case: &Measured) -> Vec<[String; COLUMNS.len()]> {
    let mut rows = case.best();
    rows.sort_by_key(|row| (row.mode != Mode::Copy, row.failure.is_some()));
    let none = String::new;
    let line = |row: &&Row| {
        let Some(seconds) = row.seconds() else {
            let mut cells = std::array::from_fn(|_| none());
            cells[0] = row.engine.clone();
            cells[COLUMNS.len() - 1] = row.failure.clone().unwrap_or_default();
            return cells;
        };
        let limit = case
            .limit(row.mode)
            .filter(|limit| limit.engine != row.engine);
        let ours = case
            .ours(Mode::Copy)
            .filter(|ours| ours.engine != row.engine);
        [
            row.engine.clone(),
            seconds.to_string(),
            row.runs.len().to_string(),
            spread(row, |run| run.outcome.again),
            speed(case, row).map_or_else(none, |speed| speed.to_string()),
            limit.map_or_else(none, |limit| share(limit, row)),
            ours.and_then(|ours| row.times(ours))
                .map_or_else(none, |times| times.to_string()),
            memory(case, row),
            device_memory(case, row),
            spread(row, |run| Some(run.outcome.pinned? as f64 / 1e6)),
            starting(row),
            how(row),
        ]
    };
    rows.iter().map(line).collect()
}

/// Others' engines; the naive one reads headers as this project does.
fn is_peer(row: &Row) -> bool {
    let is_own = row.is_ours() || row.engine == "naive";
    !row.limit && !is_own
}

/// Whether all bytes were in memory at the end, which few engines see to that hand out mappings.
fn is_resident(case: &Measured, row: &Row) -> bool {
    let growth = row.growth().unwrap_or(0.0);
    row.mode == Mode::Copy || growth >= 0.99 * case.bytes as f64
}

/// GB/s over all runs.
pub(crate) fn speed(case: &Measured, row: &Row) -> Option<Spread> {
    let bytes = case.bytes as f64 / 1e9;
    row.seconds()?;
    Spread::of(row.runs.iter().map(|run| bytes / run.outcome.seconds))
}

/// How much of the limit's speed a row has, by the rounds.
fn share(limit: &Row, row: &Row) -> String {
    limit
        .times(row)
        .map_or_else(String::new, |share| share.to_string())
}

fn memory(case: &Measured, row: &Row) -> String {
    match row.growth() {
        Some(growth) if growth > 0.0 => Digits(growth / case.bytes as f64).to_string(),
        _ => String::new(),
    }
}

fn device_memory(case: &Measured, row: &Row) -> String {
    let growth = row.device_growth;
    growth.map_or_else(String::new, |bytes| {
        Digits(bytes as f64 / case.bytes as f64).to_string()
    })
}

/// What some runs tell.
fn spread(row: &Row, of: impl Fn(&Run) -> Option<f64>) -> String {
    let told = Spread::of(row.runs.iter().filter_map(of));
    told.map_or_else(String::new, |told| told.to_string())
}

/// The part of the time that the driver and pinned memory took to start, where the engine tells.
fn starting(row: &Row) -> String {
    spread(row, |run| {
        let phases = run.outcome.phases.iter();
        let parts = phases.filter(|phase| matches!(&*phase.name, "start-up" | "pinning"));
        parts
            .map(|phase| phase.seconds)
            .reduce(|sum, part| sum + part)
    })
}

fn how(row: &Row) -> String {
    let note = row.runs.first().map(|run| run.outcome.note.as_str());
    match note {
        Some(note) if !note.is_empty() => note.to_owned(),
        _ if row.setting == row.engine => String::new(),
        _ => row.setting.clone(),
    }
}

/// The columns in which some line says something.
fn without_empty<const N: usize>(
    head: &[String; N],
    lines: &[[String; N]],
) -> (Vec<String>, Vec<Vec<String>>) {
    let says = |column: &usize| lines.iter().any(|line| !line[*column].is_empty());
    let columns: Vec<usize> = (0..N).filter(says).collect();
    let kept = |line: &[String; N]| columns.iter().map(|&column| line[column].clone()).collect();
    (kept(head), lines.iter().map(kept).collect())
}

fn markdown<const N: usize>(head: &[String; N], lines: &[[String; N]]) -> String {
    let (head, lines) = without_empty(head, lines);
    let mut text = String::new();
    let mut row = |cells: &Vec<String>| {
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    };
    row(&head);
    row(&vec!["---".to_owned(); head.len()]);
    lines.iter().for_each(row);
    text
}

#[cfg(test)]
mod tests {
    use crate::results::tests::{measured, row};
    use std::path::Path;

    use super::*;

    #[test]
    fn a_case_shows_ratios_to_the_limit_and_to_tensorlift() {
        let case = measured(vec![
            row("limit", "pread-4x4", &[0.5, 0.5]),
            row("tensorlift", "tensorlift", &[1.0, 1.0]),
            row("naive", "naive", &[4.0, 6.0]),
        ]);
        let text = for_terminal(&case);
        let line = |name: &str| {
            text.lines()
                .find(|line| line.trim().starts_with(name))
                .unwrap()
        };
        assert!(
            line("tensorlift").contains("0.500 [0.500 .. 0.500]"),
            "{text}"
        );
        assert!(line("naive").contains("5.00 [4.00 .. 6.00]"), "{text}");
        assert!(line("limit").contains("2.00 [2.00 .. 2.00]"), "{text}");
    }

    #[test]
    fn the_summary_names_the_fastest_peer() {
        let mut results = Results::new(Path::new("test"));
        results.put(measured(vec![
            row("limit", "pread-4x4", &[0.5]),
            row("tensorlift", "tensorlift", &[1.0]),
            row("slow", "slow", &[9.0]),
            row("slower", "slower", &[10.0]),
            row("naive", "naive", &[4.0]),
        ]));
        let summary = summary(&results);
        assert!(summary.contains("slow: 9.00 times as long"), "{summary}");
        // Its parser is this project's.
        assert!(!summary.contains("naive"), "{summary}");
        assert!(details(&results).contains("naive"));
    }

    #[test]
    fn a_mapped_peer_counts_if_all_its_bytes_are_in_memory() {
        let mapped = |name: &str, seconds, growth| {
            let mut row = row(name, name, &[seconds]);
            row.mode = Mode::Map;
            row.runs
                .iter_mut()
                .for_each(|run| run.outcome.resident_peak = growth);
            row
        };
        let mut case = measured(vec![]);
        let whole = case.bytes;
        case.rows = vec![
            mapped("tensorlift-map", 1.0, whole),
            mapped("lazy", 0.1, whole / 100),
            mapped("eager", 6.0, whole),
        ];
        let mut results = Results::new(Path::new("test"));
        results.put(case);
        let summary = summary(&results);
        assert!(summary.contains("eager: 6.00 times as long"), "{summary}");
        assert!(!summary.contains("lazy"), "{summary}");
    }
}
