//! `forebay top`: a running relay in a terminal. What is known lies in `state`, what is shown in `tables` and `view`; only
//! `terminal` knows the real one.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use crossbeam_channel as channel;
use crossterm::event::{Event, KeyEventKind};

use crate::admin::client::Client;

use super::admin::Which;
use super::run::EXIT_RUNTIME;
use super::{EXIT_USAGE, print, say};

use keys::Then;
use poll::{Answer, Poll};
use state::{State, View};
use table::duration;
use terminal::Screen;

mod keys;
mod poll;
mod state;
mod status;
mod table;
mod tables;
mod terminal;
#[cfg(test)]
mod tests;
mod view;

/// Drawn anew so often where nothing happens: ages go on.
const DRAW_EVERY: Duration = Duration::from_secs(1);

/// Columns of `--once`, whose reader is no terminal.
const ONCE_WIDTH: u16 = 140;

/// Programs and peers that `--once` lists.
const ONCE_ROWS: usize = 20;

#[derive(Debug, Args)]
pub(super) struct Top {
    /// Prints what there is to see once, as plain text, and ends. Takes a second, which rates are of.
    #[arg(long)]
    once: bool,
    /// How often the relay is asked, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    interval: f64,
    #[command(flatten)]
    which: Which,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=60.0).contains(seconds));
    seconds.ok_or_else(|| "expected seconds from 0.1 to 60".to_owned())
}

/// Shows until a key or a signal ends it.
pub(super) fn top(options: &Top) -> ExitCode {
    let client = match options.which.client() {
        Ok(client) => client,
        Err(code) => return code,
    };
    if options.once {
        return once(&client);
    }
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        say("top draws on a terminal, and this is none: `forebay top --once` prints what it would show\n");
        return ExitCode::from(EXIT_USAGE);
    }
    match watch(&client, Duration::from_secs_f64(options.interval)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("the terminal cannot be used: {error}\n"));
            ExitCode::from(EXIT_RUNTIME)
        }
    }
}

fn watch(client: &Client, interval: Duration) -> io::Result<()> {
    let poll = Poll::start(client.place(), interval)?;
    let signals = terminal::signals()?;
    let mut state = State::new(client.place().to_string());
    let mut screen = Screen::take()?;
    let events = terminal::events()?;
    loop {
        poll.want_sample(state.view.is_sampled() && !state.is_paused);
        screen.terminal.draw(|frame| view::draw(frame, &state, Instant::now()))?;
        channel::select! {
            recv(events) -> event => match event.map_err(io::Error::other)?? {
                Event::Key(key)
                    if key.kind != KeyEventKind::Release && keys::press(&mut state, key) == Then::Quit =>
                {
                    return Ok(());
                }
                // What other keys have changed, and a new size, is drawn at once.
                _ => {}
            },
            recv(poll.answers) -> answer => match answer.map_err(io::Error::other)? {
                Answer::Status(Ok(status), at) => state.learn(status, at),
                Answer::Status(Err(why), at) => state.miss(why, at),
                Answer::Sample(sample) => state.learn_sample(sample),
            },
            recv(signals) -> _ => return Ok(()),
            default(DRAW_EVERY) => {}
        }
    }
}

/// One look, as text.
fn once(client: &Client) -> ExitCode {
    let mut state = State::new(client.place().to_string());
    let learned = learn(client, &mut state).and_then(|()| {
        let sampling = Instant::now();
        state.learn_sample(poll::sample(client));
        // A sample takes a second; where there is none the rates need one all the same.
        thread::park_timeout(Duration::from_secs(1).saturating_sub(sampling.elapsed()));
        learn(client, &mut state)
    });
    if let Err(why) = learned {
        say(&format!("{why}\n"));
        return ExitCode::from(EXIT_RUNTIME);
    }
    print(&text(&mut state));
    ExitCode::SUCCESS
}

fn learn(client: &Client, state: &mut State) -> Result<(), String> {
    state.learn(poll::status(client)?, Instant::now());
    Ok(())
}

/// All views that say something of their own, below each other.
fn text(state: &mut State) -> String {
    let mut out = String::new();
    if let Some(now) = &state.now {
        let status = &now.status;
        out.push_str(&format!(
            "forebay {} at {}, up {}, {}\n{}\n",
            status.version,
            state.place,
            duration(status.uptime_seconds),
            if status.ready { "ready" } else { "not ready" },
            tables::summary(state, status)
        ));
        tables::alarms(state, status).iter().for_each(|alarm| out.push_str(&format!("! {alarm}\n")));
    }
    for view in [View::Overview, View::Programs, View::Peers, View::Unmatched] {
        state.show(view);
        let shown = view::plain(state, ONCE_WIDTH);
        let rows = if view == View::Overview { usize::MAX } else { ONCE_ROWS + 3 };
        out.extend(shown.lines().take(rows).flat_map(|line| [line, "\n"]));
    }
    out
}
