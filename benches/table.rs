//! The table: what was measured, on both sides, the ratio, and whether it is what is aimed at.

use std::time::Duration;

/// One line.
pub struct Row {
    what: String,
    ours: String,
    theirs: String,
    ratio: String,
    aim: String,
    met: &'static str,
}

/// What a figure is to be.
#[derive(Clone, Copy)]
pub enum Aim {
    AtMost(f64),
    AtLeast(f64),
    None,
}

impl Aim {
    fn is_met(self, figure: f64) -> &'static str {
        match self {
            Self::AtMost(bound) if figure <= bound => "met",
            Self::AtLeast(bound) if figure >= bound => "met",
            Self::None => "",
            _ => "MISSED",
        }
    }

    fn text(self, unit: &str) -> String {
        match self {
            Self::AtMost(bound) => format!("<= {bound}{unit}"),
            Self::AtLeast(bound) => format!(">= {bound}{unit}"),
            Self::None => String::new(),
        }
    }
}

impl Row {
    /// Times of ours and theirs; the ratio is ours over theirs.
    pub fn times(what: impl Into<String>, ours: &[Duration], theirs: &[Duration], aim: Aim) -> Self {
        let (ours, theirs) = (median(ours), median(theirs));
        Self::ratio(what, milliseconds(ours), milliseconds(theirs), ours.as_secs_f64() / theirs.as_secs_f64(), aim)
    }

    /// Times of ours and theirs; the ratio is how many times faster ours is.
    pub fn speed(what: impl Into<String>, ours: &[Duration], theirs: &[Duration], aim: Aim) -> Self {
        let (ours, theirs) = (median(ours), median(theirs));
        Self::ratio(what, milliseconds(ours), milliseconds(theirs), theirs.as_secs_f64() / ours.as_secs_f64(), aim)
    }

    /// A ratio of anything.
    pub fn ratio(what: impl Into<String>, ours: String, theirs: String, ratio: f64, aim: Aim) -> Self {
        let met = aim.is_met(ratio);
        Self { what: what.into(), ours, theirs, ratio: format!("{ratio:.2}"), aim: aim.text(""), met }
    }

    /// A figure that stands for itself.
    pub fn figure(what: impl Into<String>, figure: f64, unit: &str, aim: Aim) -> Self {
        let ours = format!("{figure:.1} {unit}");
        let (theirs, ratio) = (String::new(), String::new());
        Self { what: what.into(), ours, theirs, ratio, aim: aim.text(&format!(" {unit}")), met: aim.is_met(figure) }
    }

    fn cells(&self) -> [&str; 6] {
        [&self.what, &self.ours, &self.theirs, &self.ratio, &self.aim, self.met]
    }
}

/// Prints the rows, aligned.
pub fn print(rows: &[Row]) {
    let head = ["what", "ours", "theirs", "ratio", "aim", ""];
    let lines: Vec<[&str; 6]> = std::iter::once(head).chain(rows.iter().map(Row::cells)).collect();
    let width = |column: usize| lines.iter().map(|l| l[column].chars().count()).max().unwrap_or(0);
    println!();
    for line in &lines {
        let cells = line.iter().enumerate().map(|(column, cell)| {
            // Words to the left, numbers to the right.
            let (cell, width) = (*cell, width(column));
            if (1..=3).contains(&column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// The middle of what was measured.
pub fn median<T: Copy + Ord>(figures: &[T]) -> T {
    let mut figures = figures.to_vec();
    figures.sort_unstable();
    figures[figures.len() / 2]
}

pub fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
