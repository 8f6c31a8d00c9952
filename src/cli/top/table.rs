//! Tables as they are sorted, filtered and fitted into a width, whatever draws them; and numbers for people.

use std::cmp::Ordering;

/// Between two columns.
pub(super) const GAP: u16 = 2;

/// A column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) title: &'static str,
    /// Characters; of the first column at least.
    pub(super) width: u16,
    /// Set to the left, and sorted as text.
    pub(super) is_text: bool,
    /// Where there is no room the highest goes first; 0 stays.
    pub(super) rank: u8,
}

/// How a value is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// As it is.
    Plain,
    /// Nothing to see.
    Quiet,
    /// Worth a look.
    Notice,
    /// Something is lost, or stands still.
    Alarm,
}

/// A value.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    pub(super) text: String,
    /// What numbers are sorted by.
    pub(super) value: f64,
    pub(super) mood: Mood,
}

/// Rows under a title.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) title: String,
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Vec<Cell>>,
}

/// A table in the making: a row each of `items`, and each column with what stands in it.
pub(super) struct Builder<'a, T> {
    items: &'a [T],
    table: Table,
}

impl<'a, T> Builder<'a, T> {
    pub(super) fn new(title: impl Into<String>, items: &'a [T]) -> Self {
        let table =
            Table { title: title.into(), columns: Vec::new(), rows: items.iter().map(|_| Vec::new()).collect() };
        Self { items, table }
    }

    /// One more, on the right.
    pub(super) fn column(mut self, column: Column, cell: impl Fn(&'a T) -> Cell) -> Self {
        self.table.columns.push(column);
        self.table.rows.iter_mut().zip(self.items).for_each(|(row, item)| row.push(cell(item)));
        self
    }

    pub(super) fn table(self) -> Table {
        self.table
    }
}

/// What a table is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sort {
    /// `None`: as the rows come.
    pub(super) column: Option<usize>,
    /// Numbers go down and texts up, unless this is set.
    pub(super) is_reversed: bool,
}

/// A column of texts.
pub(super) const fn text(title: &'static str, width: u16, rank: u8) -> Column {
    Column { title, width, is_text: true, rank }
}

/// A column of numbers.
pub(super) const fn number(title: &'static str, width: u16, rank: u8) -> Column {
    Column { title, width, is_text: false, rank }
}

impl Cell {
    /// A text. Control characters do not reach the terminal.
    pub(super) fn text(text: &str) -> Self {
        let text = text.chars().map(|char| if char.is_control() { '?' } else { char }).collect();
        Self { text, value: 0.0, mood: Mood::Plain }
    }

    /// A count; none is quiet.
    pub(super) fn count(value: u64) -> Self {
        Self::number(value as f64, short(value as f64))
    }

    /// A rate, `None` where it is not known yet.
    pub(super) fn rate(value: Option<f64>) -> Self {
        value.map_or_else(Self::unknown, |value| Self::number(value, rate(value)))
    }

    /// A length of time; none is quiet.
    pub(super) fn seconds(value: u64) -> Self {
        Self::number(value as f64, if value == 0 { "-".to_owned() } else { duration(value) })
    }

    fn unknown() -> Self {
        Self { text: "…".to_owned(), value: 0.0, mood: Mood::Quiet }
    }

    fn number(value: f64, text: String) -> Self {
        Self { text, value, mood: if value == 0.0 { Mood::Quiet } else { Mood::Plain } }
    }

    /// The same, to be looked at so where `is_so`.
    pub(super) fn when(self, is_so: bool, mood: Mood) -> Self {
        if is_so { Self { mood, ..self } } else { self }
    }
}

impl Table {
    /// Keeps rows of which a text holds `text`, whatever its case.
    pub(super) fn filter(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let text = text.to_lowercase();
        let columns = &self.columns;
        self.rows.retain(|row| {
            let mut texts = row.iter().zip(columns).filter(|(_, column)| column.is_text);
            texts.any(|(cell, _)| cell.text.to_lowercase().contains(&text))
        });
    }

    /// Sorts; rows that are equal stay as they were.
    pub(super) fn sort(&mut self, sort: Sort) {
        let Some((index, column)) = sort.column.and_then(|index| Some((index, self.columns.get(index)?))) else {
            return;
        };
        let is_text = column.is_text;
        self.rows.sort_by(|left, right| {
            let (Some(left), Some(right)) = (left.get(index), right.get(index)) else { return Ordering::Equal };
            let order = if is_text { left.text.cmp(&right.text) } else { right.value.total_cmp(&left.value) };
            if sort.is_reversed { order.reverse() } else { order }
        });
    }

    /// The columns that fit into `width`, and how wide each is. Of what is left the first takes what its texts need, and a last
    /// one of texts the rest.
    pub(super) fn fitting(&self, width: u16) -> Vec<(usize, u16)> {
        let mut shown: Vec<(usize, Column)> = self.columns.iter().copied().enumerate().collect();
        let needed = |shown: &[(usize, Column)]| -> u16 {
            shown.iter().map(|(_, column)| column.width + GAP).sum::<u16>().saturating_sub(GAP)
        };
        while needed(&shown) > width
            && let Some(worst) = shown.iter().map(|(_, column)| column.rank).max().filter(|rank| *rank > 0)
        {
            shown.retain(|(_, column)| column.rank < worst);
        }
        let left = width.saturating_sub(needed(&shown));
        let mut fitting: Vec<(usize, u16)> =
            shown.iter().map(|(index, column)| (*index, column.width.min(width))).collect();
        let longest = self.rows.iter().filter_map(|row| row.first()).map(|cell| cell.text.chars().count()).max();
        let longest = u16::try_from(longest.unwrap_or(0)).unwrap_or(u16::MAX);
        let mut given = 0;
        if let Some((_, first)) = fitting.first_mut() {
            given = longest.saturating_sub(*first).min(left);
            *first += given;
        }
        if let ([_, .., (_, last)], Some((_, column))) = (fitting.as_mut_slice(), shown.last())
            && column.is_text
        {
            *last += left - given;
        }
        fitting
    }
}

/// `text` in `width` characters, set to one side; what is cut off is shown by `…`.
pub(super) fn padded(text: &str, width: u16, is_text: bool) -> String {
    let width = usize::from(width);
    let count = text.chars().count();
    if count > width {
        let kept: String = text.chars().take(width.saturating_sub(1)).collect();
        return if width == 0 { String::new() } else { format!("{kept}…") };
    }
    if is_text { format!("{text:<width$}") } else { format!("{text:>width$}") }
}

/// Up to five characters: `0`, `999`, `12.3k`, `1.20M`.
pub(super) fn short(value: f64) -> String {
    if value < 10_000.0 {
        return format!("{value:.0}");
    }
    let mut scaled = value;
    let mut unit = "";
    for next in ["k", "M", "G", "T", "P"] {
        if scaled < 999.5 {
            break;
        }
        scaled /= 1_000.0;
        unit = next;
    }
    let digits = if scaled < 9.995 {
        2
    } else if scaled < 99.95 {
        1
    } else {
        0
    };
    format!("{scaled:.digits$}{unit}")
}

/// A rate: small ones with a digit behind the point.
pub(super) fn rate(value: f64) -> String {
    if value > 0.0 && value < 9.95 { format!("{value:.1}") } else { short(value) }
}

/// Its two largest units: `45s`, `3m05s`, `2h10m`, `4d03h`.
pub(super) fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let row = |name: &str, to: &str, count| vec![Cell::text(name), Cell::text(to), Cell::count(count)];
        Table {
            title: "routes".to_owned(),
            columns: vec![text("route", 6, 0), text("to", 6, 2), number("count", 5, 1)],
            rows: vec![row("web", "a", 3), row("auth", "b", 20), row("mail", "A", 3)],
        }
    }

    fn names(table: &Table) -> Vec<&str> {
        table.rows.iter().map(|row| row[0].text.as_str()).collect()
    }

    #[test]
    fn numbers_are_short_and_keep_their_meaning() {
        let rows = [
            (0.0, "0"),
            (9_999.0, "9999"),
            (12_345.0, "12.3k"),
            (99_960.0, "100k"),
            (999_600.0, "1.00M"),
            (1_204_000.0, "1.20M"),
            (250_000_000.0, "250M"),
            (7.3e15, "7.30P"),
        ];
        for (value, expected) in rows {
            assert_eq!(short(value), expected);
        }
        assert_eq!([rate(0.0), rate(0.44), rate(9.96), rate(12.6)], ["0", "0.4", "10", "13"]);
        assert_eq!([duration(5), duration(65), duration(7_260), duration(90_000)], ["5s", "1m05s", "2h01m", "1d01h"]);
    }

    #[test]
    fn rows_are_sorted_by_any_column_and_filtered_by_any_text() {
        let mut sorted = table();
        sorted.sort(Sort { column: Some(2), is_reversed: false });
        assert_eq!(names(&sorted), ["auth", "web", "mail"]);
        sorted.sort(Sort { column: Some(0), is_reversed: false });
        assert_eq!(names(&sorted), ["auth", "mail", "web"]);
        sorted.sort(Sort { column: Some(0), is_reversed: true });
        assert_eq!(names(&sorted), ["web", "mail", "auth"]);
        sorted.sort(Sort { column: Some(9), is_reversed: true });
        sorted.filter("A");
        assert_eq!(names(&sorted), ["web", "mail", "auth"]);
        sorted.filter("ma");
        assert_eq!(names(&sorted), ["mail"]);
    }

    #[test]
    fn what_does_not_fit_goes_by_its_rank() {
        let table = table();
        assert_eq!(table.fitting(21), [(0, 6), (1, 6), (2, 5)]);
        assert_eq!(table.fitting(30), [(0, 6), (1, 6), (2, 5)]);
        assert_eq!(table.fitting(20), [(0, 6), (2, 5)]);
        assert_eq!(table.fitting(12), [(0, 6)]);
        let mut long = table.clone();
        long.rows[0][0] = Cell::text("a-long-name-of-a-route");
        long.columns.swap_remove(2);
        assert_eq!(long.fitting(20), [(0, 12), (1, 6)]);
        assert_eq!(long.fitting(40), [(0, 22), (1, 16)]);
        assert_eq!(table.fitting(3), [(0, 3)]);
        assert_eq!(padded("route", 4, true), "rou…");
        assert_eq!([padded("ab", 4, true), padded("ab", 4, false), padded("ab", 0, true)], ["ab  ", "  ab", ""]);
    }
}
