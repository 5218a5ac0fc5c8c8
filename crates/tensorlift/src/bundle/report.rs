use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// When the components of a bundle were loaded.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct BundleReport {
    /// One for each component, in the order in which they ended.
    pub spans: Vec<Span>,
    /// The wall time of all, in seconds.
    #[serde(rename = "wall_seconds", serialize_with = "seconds")]
    pub wall: Duration,
}

/// When a component was loaded, in seconds from the beginning of the bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Span {
    /// The component.
    pub name: String,
    /// Its beginning.
    #[serde(serialize_with = "seconds")]
    pub start: Duration,
    /// Its end.
    #[serde(serialize_with = "seconds")]
    pub end: Duration,
}

impl BundleReport {
    /// The time that was saved by loading components at the same time: their times together, less
    /// the wall time.
    #[must_use]
    pub fn hidden(&self) -> Duration {
        let together: Duration = self.spans.iter().map(|span| span.end - span.start).sum();
        together.saturating_sub(self.wall)
    }
}

/// One line: the wall time, what was hidden, and each component's time.
impl fmt::Display for BundleReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let (wall, hidden) = (milliseconds(self.wall), milliseconds(self.hidden()));
        write!(f, "{wall:.1} ms, {hidden:.1} ms hidden")?;
        for Span { name, start, end } in &self.spans {
            write!(f, ", {name} {:.1} ms", milliseconds(*end - *start))?;
        }
        Ok(())
    }
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}
