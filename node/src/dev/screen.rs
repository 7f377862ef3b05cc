//! What `dev` shows while it works: a spinner and a status line on a terminal, plain lines
//! elsewhere.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

use super::api::{Health, Seats};

/// Standard output and the line that changes below it.
pub(crate) struct Screen {
    /// `None`: not a terminal.
    bar: Option<ProgressBar>,
    /// What was last said about the cluster where lines do not change.
    last_status: Mutex<String>,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        let bar = terminal.then(|| {
            let bar = ProgressBar::new_spinner();
            // The template is a constant; were it wrong, the default would do.
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { bar, last_status: Mutex::default() }
    }

    /// A step begins.
    pub(crate) fn step(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(format!("{what} …")),
            None => say(&format!("{what} ...")),
        }
    }

    /// A step goes on; only where a line can change.
    pub(crate) fn progress(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{what} …"));
        }
    }

    /// The steps are done.
    pub(crate) fn finish(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(what.to_owned()),
            None => say(what),
        }
    }

    /// Lines that stay.
    pub(crate) fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }

    /// Something that happened while the status line was up.
    pub(crate) fn event(&self, text: &str) {
        self.line(&format!("! {text}"));
    }

    /// How the cluster is: the line that changes, or a line when the picture has changed.
    pub(crate) fn status(&self, health: &Health, nodes: u64, up_seconds: u64) {
        let brief = brief(health, nodes);
        match &self.bar {
            Some(bar) => {
                let (minutes, seconds) = (up_seconds / 60, up_seconds % 60);
                let seats = seats(health);
                bar.set_message(format!("{brief}{seats} · {minutes}:{seconds:02} · Ctrl-C stops"));
            }
            None => {
                let mut last = self.last_status.lock();
                if *last != brief {
                    say(&brief);
                    *last = brief;
                }
            }
        }
    }

    /// Takes the changing line away.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A line on standard output. Whoever reads it may be gone: no reason to stop a cluster.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn brief(health: &Health, nodes: u64) -> String {
    let leader = match health.leader {
        Some(leader) => format!("node {leader} leads"),
        None => "no leader".to_owned(),
    };
    format!("{leader} · {}/{nodes} nodes up", health.nodes_up)
}

fn seats(health: &Health) -> String {
    health.seats.map_or_else(String::new, |Seats { total, out, leases }| {
        format!(" · seats {out}/{total} out · leases {leases}")
    })
}
