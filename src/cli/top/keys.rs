//! What keys do to a state.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::state::{State, View};
use super::tables::{main_table, tables};

/// Rows of a page: how many there are is the view's business.
const PAGE: usize = 10;

/// Letters of a filter.
const FILTER_MAX: usize = 100;

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    GoOn,
    Quit,
}

/// A key was pressed.
pub(super) fn press(state: &mut State, key: KeyEvent) -> Then {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return if key.code == KeyCode::Char('c') { Then::Quit } else { Then::GoOn };
    }
    if state.is_filtering {
        write_filter(state, key.code);
        return Then::GoOn;
    }
    if state.has_help {
        // Any key closes it; some do more.
        state.has_help = false;
        if matches!(key.code, KeyCode::Char('?') | KeyCode::Esc) {
            return Then::GoOn;
        }
    }
    match key.code {
        KeyCode::Char('q') => return Then::Quit,
        KeyCode::Esc => state.filter.clear(),
        KeyCode::Char('?' | 'h') => state.has_help = true,
        KeyCode::Char(' ') => state.is_paused = !state.is_paused,
        KeyCode::Char('/') => {
            state.is_filtering = true;
            state.scrolled = 0;
        }
        KeyCode::Char('s') => {
            let columns = tables(state).get(main_table(state.view)).map_or(0, |table| table.columns.len());
            state.sort_by_next(columns);
        }
        KeyCode::Char('r') => state.reverse(),
        KeyCode::Tab | KeyCode::Right => state.turn(1),
        KeyCode::BackTab | KeyCode::Left => state.turn(View::ALL.len() - 1),
        KeyCode::Char(digit @ '1'..='5') => {
            let index = digit.to_digit(10).map_or(0, |digit| digit as usize - 1);
            if let Some(view) = View::ALL.get(index) {
                state.show(*view);
            }
        }
        code => scroll(state, code),
    }
    Then::GoOn
}

fn scroll(state: &mut State, code: KeyCode) {
    let rows = tables(state).get(main_table(state.view)).map_or(0, |table| table.rows.len());
    let to = match code {
        KeyCode::Down | KeyCode::Char('j') => state.scrolled + 1,
        KeyCode::Up | KeyCode::Char('k') => state.scrolled.saturating_sub(1),
        KeyCode::PageDown => state.scrolled + PAGE,
        KeyCode::PageUp => state.scrolled.saturating_sub(PAGE),
        KeyCode::Home | KeyCode::Char('g') => 0,
        KeyCode::End | KeyCode::Char('G') => rows,
        _ => state.scrolled,
    };
    state.scrolled = to.min(rows.saturating_sub(1));
}

fn write_filter(state: &mut State, code: KeyCode) {
    match code {
        KeyCode::Enter => state.is_filtering = false,
        KeyCode::Esc => {
            state.is_filtering = false;
            state.filter.clear();
        }
        KeyCode::Backspace => {
            state.filter.pop();
        }
        KeyCode::Char(letter) if !letter.is_control() && state.filter.len() < FILTER_MAX => state.filter.push(letter),
        _ => {}
    }
}
