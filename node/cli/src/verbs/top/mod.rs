//! `top`: the cluster as it is now, in a terminal, until `q`.
//!
//! ```text
//! gather ── a picture of now ──▶ draw ── a frame ──▶ terminal, or text for pipes
//! ```
//!
//! Every second any node is asked for status and packages, and each for its metrics; rates and
//! slow calls are what changed between two askings. A node that dies is passed over as by every
//! verb; when none answers, the last picture stays and says how old it is.

mod draw;
mod gather;
mod metrics;

use std::io::IsTerminal;
use std::time::Duration;

use futures_util::StreamExt;
use ratatui::crossterm::event::{Event, EventStream, KeyCode, KeyEventKind, KeyModifiers};

use crate::error::{CliError, Result};
use crate::options::{OutputFormat, Wait};
use crate::report::{Part, Report};
use crate::session::Session;

use draw::View;
use gather::Gatherer;
#[cfg(test)]
pub(crate) use gather::Picture;

/// How to watch.
#[derive(Debug, Clone, clap::Args)]
pub struct TopArgs {
    /// Print one picture as text and end; so does a standard output that is no terminal
    #[arg(long)]
    once: bool,
    /// Time between two askings, as 1s or 500ms
    #[arg(long, value_name = "TIME", default_value = "1s")]
    interval: Wait,
}

pub(crate) async fn run(
    args: TopArgs,
    output: OutputFormat,
    session: &Session<'_>,
) -> Result<Report> {
    let mut gatherer = Gatherer::new(session)?;
    let is_watched = std::io::stdout().is_terminal() && output == OutputFormat::Table;
    if args.once || !is_watched {
        let picture = gatherer.picture().await?;
        let json = serde_json::to_value(&picture)
            .map_err(|error| CliError::Failed(format!("the picture is not JSON: {error}")))?;
        let text = draw::text(&picture, ONCE_COLUMNS);
        return Ok(Report::done(json, vec![Part::Document(text)], Vec::new()));
    }
    let first = gatherer.picture().await?;
    let mut terminal = ratatui::try_init()
        .map_err(|error| CliError::Failed(format!("no terminal to draw on: {error}")))?;
    let watched = watch(&mut terminal, &mut gatherer, first, &args).await;
    ratatui::restore();
    watched?;
    Ok(Report::done(serde_json::json!({}), Vec::new(), Vec::new()))
}

/// Draws until told to stop.
async fn watch(
    terminal: &mut ratatui::DefaultTerminal,
    gatherer: &mut Gatherer<'_>,
    first: gather::Picture,
    args: &TopArgs,
) -> Result<()> {
    let lost = |error: std::io::Error| CliError::Failed(format!("the terminal is gone: {error}"));
    let mut view = View::default();
    let mut picture = first;
    let mut keys = EventStream::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(args.interval.ms));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        terminal.draw(|frame| draw::draw(frame, &picture, &mut view)).map_err(lost)?;
        tokio::select! {
            _ = ticks.tick() => match gatherer.picture().await {
                Ok(now) => {
                    picture = now;
                    view.trouble = None;
                }
                Err(error @ CliError::NotReachable { .. }) => view.trouble = Some(error.line()),
                Err(CliError::Refused(refusal)) => {
                    view.trouble = Some(CliError::Refused(refusal).line());
                }
                Err(error) => return Err(error),
            },
            event = keys.next() => match event {
                Some(Ok(event)) => {
                    if !obey(&event, &mut view) {
                        return Ok(());
                    }
                }
                Some(Err(error)) => return Err(lost(error)),
                None => return Ok(()),
            },
        }
    }
}

/// What a key does; `false`: stop.
fn obey(event: &Event, view: &mut View) -> bool {
    let Event::Key(key) = event else { return true };
    if key.kind == KeyEventKind::Release {
        return true;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c') if control => return false,
        KeyCode::Char('q') | KeyCode::Esc if !view.help => return false,
        KeyCode::Char('q') | KeyCode::Esc => view.help = false,
        KeyCode::Char('?' | 'h') => view.help = !view.help,
        KeyCode::Down | KeyCode::Char('j') => {
            view.first_package = view.first_package.saturating_add(1)
        }
        KeyCode::Up | KeyCode::Char('k') => {
            view.first_package = view.first_package.saturating_sub(1)
        }
        KeyCode::Home => view.first_package = 0,
        _ => {}
    }
    true
}

/// A picture for pipes is as wide as the narrowest terminal that people have.
const ONCE_COLUMNS: u16 = 80;

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::KeyEvent;

    use super::*;

    #[test]
    fn keys_do_what_the_help_says() {
        let key = |code| Event::Key(KeyEvent::new(code, KeyModifiers::NONE));
        let mut view = View::default();
        assert!(obey(&key(KeyCode::Down), &mut view) && view.first_package == 1);
        assert!(obey(&key(KeyCode::Up), &mut view) && view.first_package == 0);
        assert!(obey(&key(KeyCode::Up), &mut view) && view.first_package == 0);
        assert!(obey(&key(KeyCode::Char('?')), &mut view) && view.help);
        assert!(obey(&key(KeyCode::Char('q')), &mut view) && !view.help, "q closes the help");
        assert!(!obey(&key(KeyCode::Char('q')), &mut view));
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert!(!obey(&Event::Key(interrupt), &mut view));
    }
}
