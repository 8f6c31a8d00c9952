//! Draws a state. Changes nothing, and knows no terminal: any of ratatui's backends will do.

use std::time::Instant;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph, Sparkline};

use super::state::{State, View};
use super::table::{GAP, Mood, Sort, Table, duration, padded, short};
use super::tables::{alarms, main_table, summary, tables};

/// Below this nothing can be read.
const WIDTH_MIN: u16 = 30;
const HEIGHT_MIN: u16 = 6;

/// The chart beside the summary, and from which width on there is one.
const CHART_WIDTH: u16 = 32;
const CHART_FROM: u16 = 96;

const HELP: &[&str] = &[
    "1 2 3 4 5    overview, routes, programs, peers, unmatched",
    "Tab, arrows  the next view, the one before",
    "s            sorts by the next column (of the routes, in the overview)",
    "r            the other way round",
    "/            shows rows with a text only; Enter keeps it, Esc forgets it",
    "j k, PgDn    scrolls",
    "Space        stops what is shown, and lets it go on",
    "q, Ctrl-C    ends",
    "",
    "lost, dropped: since the relay started; red: now",
    "~ estimated from a sample of what arrives (a tap): a thousand messages a second",
];

const QUIET: Style = Style::new().fg(Color::DarkGray);
const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);
const ALARM: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const NOTICE: Style = Style::new().fg(Color::Yellow);
const HEAD: Style = Style::new().fg(Color::Cyan);

/// Draws all of it. `now` is when.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State, now: Instant) {
    let area = frame.area();
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        let text = format!("{}x{} is too small", area.width, area.height);
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let alarms = told(state, now);
    let alarm_rows = u16::try_from(alarms.len()).unwrap_or(0).min(area.height / 4);
    let [head, alarm_area, tabs, body, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(alarm_rows),
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(area);
    draw_head(frame, state, head);
    frame.render_widget(Paragraph::new(alarms), alarm_area);
    frame.render_widget(Paragraph::new(tab_line(state)), tabs);
    draw_tables(frame, state, body);
    frame.render_widget(Paragraph::new(foot_line(state)), foot);
    if state.has_help {
        draw_help(frame, body);
    }
}

/// What is wrong, with us and with the relay.
fn told(state: &State, now: Instant) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if let Some((why, since)) = &state.trouble {
        let seconds = now.saturating_duration_since(*since).as_secs();
        let what = if state.now.is_some() { "no answer, what is shown is old" } else { "no answer" };
        lines.push(Line::styled(format!("{what} ({}): {why}", duration(seconds)), ALARM));
        lines.push(Line::styled("it is asked again and again; q ends", NOTICE));
        return lines;
    }
    if let Some(now) = &state.now {
        lines.extend(alarms(state, &now.status).into_iter().map(|alarm| Line::styled(format!("! {alarm}"), ALARM)));
    }
    lines
}

fn draw_head(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let (texts, chart) = if area.width >= CHART_FROM {
        let [texts, chart] = Layout::horizontal([Constraint::Min(1), Constraint::Length(CHART_WIDTH)]).areas(area);
        (texts, Some(chart))
    } else {
        (area, None)
    };
    let mut lines = Vec::new();
    match &state.now {
        None => lines.push(Line::styled(format!("forebay at {}: asking…", state.place), STRONG)),
        Some(now) => {
            let status = &now.status;
            let mut about = format!(
                "forebay {} at {}  up {}  {} shard{}",
                status.version,
                state.place,
                duration(status.uptime_seconds),
                status.shards,
                if status.shards == 1 { "" } else { "s" }
            );
            if let Some(spool) = &status.spool {
                let size = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), |bytes| short(bytes as f64));
                let (used, max) = (size(spool.disk_bytes), size(spool.max_bytes));
                about.push_str(&format!("  spool {}, {used} of {max}", spool.state));
            }
            lines.push(Line::from(about));
            lines.push(Line::styled(summary(state, status), STRONG));
        }
    }
    frame.render_widget(Paragraph::new(lines), texts);
    if let Some(chart) = chart {
        let last = usize::from(chart.width);
        let skipped = state.history.len().saturating_sub(last);
        let data: Vec<u64> = state.history.iter().skip(skipped).copied().collect();
        frame.render_widget(Sparkline::default().data(&data).style(HEAD), chart);
    }
}

fn tab_line(state: &State) -> Line<'static> {
    let mut spans = Vec::new();
    for (index, view) in View::ALL.iter().enumerate() {
        let style = if *view == state.view { HEAD.add_modifier(Modifier::REVERSED) } else { QUIET };
        spans.push(Span::styled(format!(" {} {} ", index + 1, view.name()), style));
        spans.push(Span::raw(" "));
    }
    Line::from(spans)
}

fn foot_line(state: &State) -> Line<'static> {
    if state.is_filtering {
        return Line::from(vec![Span::styled(format!("/{}", state.filter), STRONG), Span::styled("_", NOTICE)]);
    }
    let mut spans = Vec::new();
    if state.is_paused {
        spans.push(Span::styled("paused  ", NOTICE));
    }
    if !state.filter.is_empty() {
        spans.push(Span::styled(format!("/{}  ", state.filter), NOTICE));
    }
    spans.push(Span::styled("q quit  ? help  Tab view  s sort  r reverse  / filter  Space pause", QUIET));
    Line::from(spans)
}

/// Tables below each other. Each has its rows as far as there is room, the main one what is left.
fn draw_tables(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let tables = tables(state);
    let main = main_table(state.view).min(tables.len().saturating_sub(1));
    // Title, heads and rows; a line between two.
    let wanted = |table: &Table| u16::try_from(table.rows.len()).unwrap_or(u16::MAX).saturating_add(2);
    let others: u16 =
        tables.iter().enumerate().filter(|(index, _)| *index != main).map(|(_, table)| wanted(table)).sum();
    let gaps = u16::try_from(tables.len().saturating_sub(1)).unwrap_or(0);
    // The main one has a third at least.
    let others_may = area.height.saturating_sub((area.height / 3).max(4)).saturating_sub(gaps);
    let mut left = area;
    let mut spent = 0;
    for (index, table) in tables.iter().enumerate() {
        let height = if index == main {
            wanted(table).min(area.height.saturating_sub(others.min(others_may)).saturating_sub(gaps))
        } else {
            let height = wanted(table).min(others_may.saturating_sub(spent));
            spent += height;
            height
        };
        let height = height.min(left.height);
        if height == 0 {
            continue;
        }
        let here = Rect { height, ..left };
        let (sort, scrolled) = if index == main { (state.sort(), state.scrolled) } else { Default::default() };
        draw_table(frame, table, sort, scrolled, here);
        let used = (height + 1).min(left.height);
        left = Rect { y: left.y + used, height: left.height - used, ..left };
    }
}

fn draw_table(frame: &mut Frame<'_>, table: &Table, sort: Sort, scrolled: usize, area: Rect) {
    let columns = table.fitting(area.width);
    let shown = usize::from(area.height.saturating_sub(2));
    // The last rows stay where they are reached.
    let scrolled = scrolled.min(table.rows.len().saturating_sub(shown));
    let more = table.rows.len().saturating_sub(scrolled + shown);
    let mut title = vec![Span::styled(table.title.clone(), STRONG)];
    if more > 0 || scrolled > 0 {
        title.push(Span::styled(
            format!("  {} to {} of {}", scrolled + 1, (scrolled + shown).min(table.rows.len()), table.rows.len()),
            QUIET,
        ));
    }
    let mut lines = vec![Line::from(title), head_line(table, sort, &columns)];
    for row in table.rows.iter().skip(scrolled).take(shown) {
        let mut spans = Vec::new();
        for (index, width) in &columns {
            let (Some(cell), Some(column)) = (row.get(*index), table.columns.get(*index)) else { continue };
            let style = match cell.mood {
                Mood::Plain => Style::new(),
                Mood::Quiet => QUIET,
                Mood::Notice => NOTICE,
                Mood::Alarm => ALARM,
            };
            spans.push(Span::styled(padded(&cell.text, *width, column.is_text), style));
            spans.push(Span::raw(" ".repeat(usize::from(GAP))));
        }
        lines.push(Line::from(spans));
    }
    if table.rows.is_empty() {
        lines.push(Line::styled("none", QUIET));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn head_line(table: &Table, sort: Sort, columns: &[(usize, u16)]) -> Line<'static> {
    let mut spans = Vec::new();
    for (index, width) in columns {
        let Some(column) = table.columns.get(*index) else { continue };
        let is_sorted = sort.column == Some(*index);
        let style = if is_sorted { HEAD.add_modifier(Modifier::REVERSED) } else { HEAD };
        spans.push(Span::styled(padded(column.title, *width, column.is_text), style));
        spans.push(Span::raw(" ".repeat(usize::from(GAP))));
    }
    Line::from(spans)
}

fn draw_help(frame: &mut Frame<'_>, body: Rect) {
    let width = HELP.iter().map(|line| line.chars().count()).max().unwrap_or(0) + 2;
    let width = u16::try_from(width).unwrap_or(u16::MAX).min(body.width);
    let height = u16::try_from(HELP.len()).unwrap_or(u16::MAX).saturating_add(2).min(body.height);
    let area = Rect { x: body.x + (body.width - width) / 2, y: body.y, width, height };
    frame.render_widget(Clear, area);
    let mut lines = vec![Line::styled(" keys", STRONG)];
    lines.extend(HELP.iter().map(|line| Line::from(format!(" {line}"))));
    frame.render_widget(Paragraph::new(lines).style(Style::new().bg(Color::DarkGray).fg(Color::White)), area);
}

/// The state as plain text, of as many columns as are wanted.
pub(super) fn plain(state: &State, width: u16) -> String {
    let mut out = String::new();
    for table in tables(state) {
        let columns = table.fitting(width);
        out.push_str(&format!("\n{}\n", table.title));
        let heads = columns.iter().filter_map(|(index, width)| {
            let column = table.columns.get(*index)?;
            Some(padded(column.title, *width, column.is_text))
        });
        push_line(&mut out, heads);
        for row in &table.rows {
            let cells = columns.iter().filter_map(|(index, width)| {
                let (cell, column) = (row.get(*index)?, table.columns.get(*index)?);
                Some(padded(&cell.text, *width, column.is_text))
            });
            push_line(&mut out, cells);
        }
        if table.rows.is_empty() {
            out.push_str("none\n");
        }
    }
    out
}

fn push_line(out: &mut String, cells: impl Iterator<Item = String>) {
    let cells: Vec<String> = cells.collect();
    out.push_str(cells.join(&" ".repeat(usize::from(GAP))).trim_end());
    out.push('\n');
}
