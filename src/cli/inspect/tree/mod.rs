//! `whittle inspect IMAGE --tree`: layers and files of an image on a terminal, to walk through.
//!
//! The arrows: `model` <- `state` <- `view` <- here. Keys change a state, and the state is drawn: neither knows a terminal.

mod model;
mod state;
mod view;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::signal::unix::{SignalKind, signal};

use super::location::Location;
use super::remote::Connection;
use super::source::Source;
use super::table::plain;
use super::{FAILED, InspectError, Options, explain};
use model::Model;
use state::{Key, State};
use whittle_image::Limits;

/// Things that layers did which are kept: each takes 32 bytes.
const STEPS: usize = 1_000_000;
/// How long a signal may wait to be seen.
const TICK: Duration = Duration::from_millis(200);
/// How long the reading of keys may take to end after a signal.
const GONE: Duration = Duration::from_secs(2);
/// Ended by Ctrl-C or a signal.
const INTERRUPTED: u8 = 130;

/// Shows it until somebody has seen enough.
pub(super) async fn run(options: &Options) -> ExitCode {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        eprintln!(
            "whittle: --tree requires a terminal for its input and output: run it without pipes, or use -o table, json or html"
        );
        return ExitCode::from(FAILED);
    }
    let model = match read(options).await {
        Ok(model) => model,
        Err(error) => {
            eprintln!("whittle: {}", plain(&explain(&options.image, &error)));
            return ExitCode::from(FAILED);
        }
    };
    let ended = Arc::new(AtomicBool::new(false));
    let seen = ended.clone();
    let shown = tokio::task::spawn_blocking(move || show(model, &seen));
    let signals = async {
        let heard = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ];
        let mut heard: Vec<_> = heard
            .into_iter()
            .filter_map(|kind| signal(kind).ok())
            .collect();
        let each = heard.iter_mut().map(|signal| Box::pin(signal.recv()));
        futures::future::select_all(each).await;
    };
    let mut shown = std::pin::pin!(shown);
    let result = tokio::select! {
        result = &mut shown => result,
        () = signals => {
            ended.store(true, Ordering::Relaxed);
            match tokio::time::timeout(GONE, &mut shown).await {
                Ok(result) => result,
                // Where the terminal itself has gone, the reading of its keys does not end (crossterm#793).
                Err(_) => {
                    let _ = ratatui::try_restore();
                    std::process::exit(i32::from(INTERRUPTED));
                }
            }
        }
    };
    match result {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => {
            eprintln!("whittle: the terminal failed: {error}");
            ExitCode::from(FAILED)
        }
        // The message was printed by the panic itself, on the terminal as it was.
        Err(_) => ExitCode::from(FAILED),
    }
}

async fn read(options: &Options) -> Result<Model, InspectError> {
    let connection = Connection {
        plain_http: options.plain_http,
        ca: options.ca.clone(),
    };
    let location = Location::parse(&options.image, std::path::Path::exists)?;
    let mut source = Source::open(location, &connection)?;
    let found = source.find(&options.platforms).await?.images.swap_remove(0);
    let limits = Limits {
        steps: STEPS,
        ..Limits::default()
    };
    let image = source.read(&found, limits).await?;
    Ok(Model::new(&options.image, image, &found.config))
}

/// The loop of keys and pictures. `ended`: set once a signal has come.
fn show(model: Model, ended: &AtomicBool) -> io::Result<ExitCode> {
    // A panic gives the terminal back, too: ratatui's hook does that before the message is printed.
    let mut terminal = ratatui::try_init()?;
    let result = walk(&mut terminal, &model, ended);
    ratatui::try_restore()?;
    result
}

fn walk(
    terminal: &mut ratatui::DefaultTerminal,
    model: &Model,
    ended: &AtomicBool,
) -> io::Result<ExitCode> {
    let mut state = State::new(model);
    loop {
        terminal.draw(|frame| view::draw(frame, &mut state, model))?;
        loop {
            if ended.load(Ordering::Relaxed) {
                return Ok(ExitCode::from(INTERRUPTED));
            }
            if event::poll(TICK)? {
                break;
            }
        }
        match event::read()? {
            Event::Key(pressed) if is_interrupt(&pressed) => {
                return Ok(ExitCode::from(INTERRUPTED));
            }
            Event::Key(pressed) if pressed.kind != KeyEventKind::Release => {
                #[cfg(test)]
                assert!(pressed.code != KeyCode::F(12), "a test asked for a panic");
                if let Some(key) = key(&pressed) {
                    state.press(key, model);
                }
            }
            _ => {}
        }
        if state.is_over() {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn is_interrupt(pressed: &KeyEvent) -> bool {
    pressed.modifiers.contains(KeyModifiers::CONTROL) && pressed.code == KeyCode::Char('c')
}

fn key(pressed: &KeyEvent) -> Option<Key> {
    let held = KeyModifiers::CONTROL | KeyModifiers::ALT;
    if pressed.modifiers.intersects(held) {
        return None;
    }
    Some(match pressed.code {
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Enter => Key::Enter,
        KeyCode::Tab | KeyCode::BackTab => Key::Tab,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Char(c) => Key::Char(c),
        _ => return None,
    })
}

#[cfg(test)]
mod terminal_tests;
#[cfg(test)]
mod tests;
