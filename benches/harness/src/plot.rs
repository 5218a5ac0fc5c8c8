//! Results as pictures.

use std::fmt::Write;

use crate::definition::{FileFormat, Series};
use crate::engine::Mode;
use crate::results::{Measured, Results, Row};
use crate::stats::Digits;
use crate::table::speed;

const OURS: &str = "#c2410c";
const LIMIT: &str = "#9ca3af";
const PEER: &str = "#3b6ea5";
const TEXT: &str = "#1f2937";
const FAINT: &str = "#d1d5db";

/// GB/s of every engine in the cases that are `shown`: medians as bars, ranges as lines across
/// their ends.
pub(crate) fn bars(results: &Results, shown: impl Fn(&str) -> bool) -> String {
    const WIDTH: f64 = 460.0;
    const BAR: f64 = 15.0;
    let cases = results
        .cases
        .iter()
        .filter(|case| case.series.is_none() && case.not_run.is_none() && shown(&case.name));
    let cases: Vec<&Measured> = cases.collect();
    let mut picture = Picture::default();
    let mut top = 10.0;
    for pair in cases.chunks(2) {
        let rows = pair
            .iter()
            .map(|case| copies(case).len())
            .max()
            .unwrap_or(0);
        for (column, case) in pair.iter().enumerate() {
            panel(
                &mut picture,
                case,
                10.0 + column as f64 * (WIDTH + 20.0),
                top,
                WIDTH,
                BAR,
            );
        }
        top += rows as f64 * BAR + 50.0;
    }
    picture.finish(2.0 * WIDTH + 40.0, top)
}

fn copies(case: &Measured) -> Vec<&Row> {
    let rows = case.best().into_iter();
    rows.filter(|row| row.mode == Mode::Copy && row.seconds().is_some())
        .collect()
}

fn panel(picture: &mut Picture, case: &Measured, left: f64, top: f64, width: f64, bar: f64) {
    const NAMES: f64 = 150.0;
    const VALUES: f64 = 50.0;
    picture.text(
        left,
        top + 12.0,
        "start",
        12.0,
        &format!("{} (GB/s)", case.name),
    );
    let rows = copies(case);
    let spreads: Vec<_> = rows.iter().map(|row| speed(case, row)).collect();
    let largest = spreads
        .iter()
        .flatten()
        .map(|spread| spread.max)
        .fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| left + NAMES + value / largest * (width - NAMES - VALUES);
    for (index, (row, spread)) in rows.iter().zip(&spreads).enumerate() {
        let Some(spread) = spread else { continue };
        let y = top + 20.0 + index as f64 * bar;
        picture.text(left + NAMES - 6.0, y + bar - 4.0, "end", 11.0, &row.engine);
        picture.rectangle(
            x(0.0),
            y + 2.0,
            x(spread.median) - x(0.0),
            bar - 4.0,
            color(row),
        );
        let middle = y + bar / 2.0;
        picture.line((x(spread.min), middle), (x(spread.max), middle), TEXT);
        let label = Digits(spread.median).to_string();
        picture.text(x(spread.max) + 5.0, y + bar - 4.0, "start", 11.0, &label);
    }
}

/// Seconds against bytes, and against tensors, both axes in powers of ten.
pub(crate) fn growth(results: &Results) -> String {
    const WIDTH: f64 = 540.0;
    const HEIGHT: f64 = 360.0;
    let mut picture = Picture::default();
    for (column, (series, title)) in [
        (Series::Bytes, "seconds by bytes of tensors"),
        (Series::Tensors, "seconds by number of tensors"),
    ]
    .into_iter()
    .enumerate()
    {
        let cases = results
            .cases
            .iter()
            .filter(|case| case.series == Some(series));
        let size = |case: &Measured| match series {
            Series::Bytes => case.bytes as f64,
            Series::Tensors => case.tensors as f64,
        };
        let cases: Vec<(f64, &Measured)> = cases.map(|case| (size(case), case)).collect();
        chart(
            &mut picture,
            &cases,
            title,
            column as f64 * WIDTH,
            WIDTH,
            HEIGHT,
        );
    }
    picture.finish(2.0 * WIDTH, HEIGHT)
}

/// An engine, its name, and its points.
type Line<'a> = (&'a Row, String, Vec<(f64, f64)>);

fn chart(
    picture: &mut Picture,
    cases: &[(f64, &Measured)],
    title: &str,
    left: f64,
    width: f64,
    height: f64,
) {
    picture.text(left + 50.0, 18.0, "start", 13.0, title);
    let mut lines: Vec<Line<'_>> = Vec::new();
    for (size, case) in cases {
        for row in case.best() {
            let Some(seconds) = row.seconds() else {
                continue;
            };
            let point = (size.log10(), seconds.median.log10());
            let name = match case.format {
                FileFormat::Safetensors => row.engine.clone(),
                format => format!("{}, {format}", row.engine),
            };
            match lines.iter_mut().find(|(_, other, _)| *other == name) {
                Some((_, _, points)) => points.push(point),
                None => lines.push((row, name, vec![point])),
            }
        }
    }
    let points = || lines.iter().flat_map(|(_, _, points)| points);
    let range = |axis: fn(&(f64, f64)) -> f64| {
        let (low, high) = points()
            .map(axis)
            .fold((f64::MAX, f64::MIN), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        (low.floor(), high.ceil().max(low.floor() + 1.0))
    };
    if lines.is_empty() {
        return;
    }
    let (xs, ys) = (range(|point| point.0), range(|point| point.1));
    let x = |value: f64| left + 60.0 + (value - xs.0) / (xs.1 - xs.0) * (width - 250.0);
    let y = |value: f64| height - 40.0 - (value - ys.0) / (ys.1 - ys.0) * (height - 80.0);
    for power in xs.0 as i32..=xs.1 as i32 {
        let at = x(f64::from(power));
        picture.line((at, y(ys.0)), (at, y(ys.1)), FAINT);
        picture.text(at, height - 22.0, "middle", 11.0, &format!("1e{power}"));
    }
    for power in ys.0 as i32..=ys.1 as i32 {
        let at = y(f64::from(power));
        picture.line((x(xs.0), at), (x(xs.1), at), FAINT);
        picture.text(left + 54.0, at + 4.0, "end", 11.0, &format!("1e{power} s"));
    }
    let mut label = 50.0;
    for (row, name, points) in &lines {
        let shade = color(row);
        for pair in points.windows(2) {
            picture.line(
                (x(pair[0].0), y(pair[0].1)),
                (x(pair[1].0), y(pair[1].1)),
                shade,
            );
        }
        for point in points {
            picture.circle(x(point.0), y(point.1), shade);
        }
        let at = left + width - 180.0;
        picture.circle(at, label, shade);
        picture.text(at + 8.0, label + 4.0, "start", 11.0, name);
        label += 16.0;
    }
}

fn color(row: &Row) -> &'static str {
    match row {
        row if row.limit => LIMIT,
        row if row.is_ours() => OURS,
        _ => PEER,
    }
}

/// The elements of an SVG file.
#[derive(Default)]
struct Picture {
    elements: String,
}

impl Picture {
    fn text(&mut self, x: f64, y: f64, anchor: &str, size: f64, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        self.element(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" font-size="{size}" fill="{TEXT}">{text}</text>"#
        ));
    }

    fn rectangle(&mut self, x: f64, y: f64, width: f64, height: f64, color: &str) {
        self.element(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{color}"/>"#
        ));
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), color: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.element(format_args!(
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{color}"/>"#
        ));
    }

    fn circle(&mut self, x: f64, y: f64, color: &str) {
        self.element(format_args!(
            r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{color}"/>"#
        ));
    }

    fn element(&mut self, element: std::fmt::Arguments<'_>) {
        writeln!(self.elements, "{element}").expect("memory takes all");
    }

    fn finish(self, width: f64, height: f64) -> String {
        // A ground of its own: pages may be dark.
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" font-family=\"sans-serif\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{}</svg>\n",
            self.elements
        )
    }
}

#[cfg(test)]
mod tests {
    use crate::results::tests::{measured, row};
    use std::path::Path;

    use super::*;

    #[test]
    fn every_engine_has_a_bar_and_every_tag_its_end() {
        let mut results = Results::new(Path::new("test"));
        results.put(measured(vec![
            row("limit", "a", &[1.0]),
            row("a < b", "b", &[2.0]),
        ]));
        let picture = bars(&results, |_| true);
        assert_eq!(picture.matches("<rect x=").count(), 2);
        assert!(picture.contains("a &lt; b"));
        assert_eq!(
            picture.matches("<text").count(),
            picture.matches("</text>").count()
        );
    }

    #[test]
    fn growth_joins_the_points_of_an_engine() {
        let mut results = Results::new(Path::new("test"));
        for (index, bytes) in [1_000, 10_000, 100_000].into_iter().enumerate() {
            let mut case = measured(vec![row("tensorlift", "", &[0.1 * bytes as f64])]);
            (case.name, case.series, case.bytes) = (index.to_string(), Some(Series::Bytes), bytes);
            results.put(case);
        }
        let picture = growth(&results);
        assert_eq!(picture.matches(&format!("stroke=\"{OURS}\"")).count(), 2);
    }
}
