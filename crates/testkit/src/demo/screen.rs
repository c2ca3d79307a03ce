//! What the demo shows: redrawn in place on a terminal, plain lines elsewhere.

use std::io::IsTerminal as _;
use std::time::Duration;

use crate::print;

/// One moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Moment {
    /// Since the first row.
    pub(crate) elapsed: Duration,
    /// Changes that MongoDB has made.
    pub(crate) changes: u64,
    /// Rows in ClickHouse.
    pub(crate) rows: u64,
    /// Rows that arrived per second, lately.
    pub(crate) rate: f64,
    /// Age of the newest row, in seconds.
    pub(crate) lag: Option<f64>,
    /// Each query with the lines of its answer.
    pub(crate) answers: Vec<(&'static str, Vec<String>)>,
}

/// Where moments are drawn.
#[derive(Debug)]
pub(crate) struct Screen {
    terminal: bool,
    drawn: usize,
}

impl Screen {
    pub(crate) fn new() -> Self {
        Self { terminal: std::io::stdout().is_terminal(), drawn: 0 }
    }

    /// How often it is worth drawing.
    pub(crate) fn interval(&self) -> Duration {
        Duration::from_millis(if self.terminal { 500 } else { 2000 })
    }

    /// Draws over the moment before.
    pub(crate) fn draw(&mut self, moment: &Moment) {
        if !self.terminal {
            print(&format!("{}\n", figures(moment)));
            return;
        }
        let mut lines = vec![figures(moment), String::new()];
        lines.extend(answers(moment));
        let up = if self.drawn > 0 { format!("\x1b[{}F", self.drawn) } else { String::new() };
        self.drawn = lines.len();
        let text: String = lines.iter().map(|line| format!("{line}\x1b[K\n")).collect();
        // Without wrapping: a long line must stay one line, or the way up would be wrong.
        print(&format!("{up}\x1b[?7l{text}\x1b[?7h\x1b[J"));
    }

    /// Leaves the last moment on the screen, whole.
    pub(crate) fn finish(&mut self, moment: &Moment) {
        self.draw(moment);
        if !self.terminal {
            let text: String = answers(moment).iter().map(|line| format!("{line}\n")).collect();
            print(&format!("\n{text}"));
        }
    }
}

fn figures(moment: &Moment) -> String {
    let Moment { elapsed, changes, rows, rate, lag, .. } = moment;
    let lag = lag.map_or_else(|| "-".into(), |lag| format!("{lag:.1} s"));
    let behind = changes.saturating_sub(*rows);
    format!(
        "{:>4} s   MongoDB {changes:>7} changes   ClickHouse {rows:>7} rows   {rate:>6.0} rows/s   \
         lag {lag}, {behind} changes",
        elapsed.as_secs()
    )
}

fn answers(moment: &Moment) -> Vec<String> {
    let mut lines = Vec::new();
    for (query, answer) in &moment.answers {
        lines.push(format!("  {query}"));
        lines.extend(answer.iter().map(|line| format!("      {line}")));
    }
    lines
}
