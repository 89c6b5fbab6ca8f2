//! Lines, columns and colours.
//!
//! Owns the page's width, the wrapping, the alignment of tables, and the gate that all text passes (`clean`): a
//! server's error message or a process's name cannot move the cursor of the reader's terminal. Never
//! knows what a figure means. Called by the other files of `text`.

use super::width::{columns, cut, padding, wrap};
use crate::clean::one_line;
use crate::secrets::KnownSecrets;

/// No line is longer, in columns of a terminal.
pub(super) const WIDTH: usize = 100;
/// Where the values of labelled lines start.
const LABEL: usize = 20;
const INDENT: &str = "  ";
/// A column of text that has to give way keeps this much.
const NARROWEST: usize = 6;

/// Whether escape codes for colour are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Plain,
    Color,
}

/// What a piece of text is, for the eye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    Plain,
    Bold,
    Dim,
    Good,
    Warn,
    Bad,
}

impl Ink {
    const fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Bold => Some("1"),
            Self::Dim => Some("2"),
            Self::Good => Some("32"),
            Self::Warn => Some("33"),
            Self::Bad => Some("1;31"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
    /// To the left, and the first to give way where the table is too wide.
    Elastic,
}

/// The text under construction.
pub(super) struct Page {
    out: String,
    style: Style,
    known: KnownSecrets,
}

impl Page {
    pub(super) const fn new(style: Style, known: KnownSecrets) -> Self {
        Self { out: String::new(), style, known }
    }

    /// The gate: nothing comes to the page that did not pass it.
    fn fit_to_show(&self, text: &str) -> String {
        one_line(&self.known.mask(text)).into_owned()
    }

    pub(super) fn finish(self) -> String {
        self.out
    }

    pub(super) fn blank(&mut self) {
        self.out.push('\n');
    }

    /// A section's title, set apart from what is above.
    pub(super) fn heading(&mut self, title: &str) {
        self.blank();
        self.text(Ink::Bold, title);
    }

    /// A paragraph from the left margin.
    pub(super) fn text(&mut self, ink: Ink, text: &str) {
        self.hanging("", "", ink, text);
    }

    /// An indented paragraph.
    pub(super) fn note(&mut self, ink: Ink, text: &str) {
        self.hanging(INDENT, INDENT, ink, text);
    }

    /// A label and its value, the value's further lines under its first.
    pub(super) fn pair(&mut self, label: &str, value: &str) {
        self.pair_in(Ink::Plain, label, value);
    }

    pub(super) fn pair_in(&mut self, ink: Ink, label: &str, value: &str) {
        let label = self.fit_to_show(label);
        let first = format!("{INDENT}{label}{}", padding(&label, LABEL));
        let rest = " ".repeat(columns(&first));
        self.hanging(&first, &rest, ink, value);
    }

    /// Text behind a coloured tag.
    pub(super) fn tagged(&mut self, ink: Ink, tag: &str, text: &str) {
        let tag = &*self.fit_to_show(tag);
        let width = INDENT.len() + columns(tag) + 2;
        let lines = wrap(&self.fit_to_show(text), WIDTH - width);
        for (i, line) in lines.iter().enumerate() {
            if i == 0 {
                self.out.push_str(INDENT);
                self.paint(ink, tag);
                self.out.push_str("  ");
            } else {
                self.out.push_str(&" ".repeat(width));
            }
            self.out.push_str(line);
            self.out.push('\n');
        }
    }

    /// Rows under a dimmed header, as wide as their cells; a row may be shorter than the header, and a title may
    /// have two lines. Text that would make it wider than the page is cut, figures never are.
    pub(super) fn table(&mut self, header: &[(&str, Align)], rows: &[Vec<String>]) {
        let rows: Vec<Vec<String>> =
            rows.iter().map(|r| r.iter().map(|c| self.fit_to_show(c)).collect()).collect();
        let cell = |row: &[String], i: usize| row.get(i).map_or(0, |c| columns(c));
        let mut widths: Vec<usize> = (0..header.len())
            .map(|i| rows.iter().map(|r| cell(r, i)).max().unwrap_or(0).max(title_width(header[i].0)))
            .collect();
        fit(header, &mut widths);
        let above = |title: &str| title.split_once('\n').map_or("", |(above, _)| above).to_owned();
        let below = |title: &str| title.split_once('\n').map_or(title, |(_, below)| below).to_owned();
        let mut titles: Vec<Vec<String>> = vec![header.iter().map(|(title, _)| below(title)).collect()];
        if header.iter().any(|(title, _)| title.contains('\n')) {
            titles.insert(0, header.iter().map(|(title, _)| above(title)).collect());
        }
        let titles = titles.iter().map(|r| (Ink::Dim, r));
        for (ink, row) in titles.chain(rows.iter().map(|r| (Ink::Plain, r))) {
            let mut line = String::new();
            for (i, (_, align)) in header.iter().enumerate() {
                let width = widths[i];
                let text = cut(row.get(i).map_or("", String::as_str), width);
                let space = padding(&text, width);
                line.push_str(INDENT);
                line.push_str(&match align {
                    Align::Left | Align::Elastic => format!("{text}{space}"),
                    Align::Right => format!("{space}{text}"),
                });
            }
            self.paint(ink, line.trim_end());
            self.out.push('\n');
        }
    }

    fn hanging(&mut self, first: &str, rest: &str, ink: Ink, text: &str) {
        let room = WIDTH.saturating_sub(columns(first));
        for (i, line) in wrap(&self.fit_to_show(text), room).iter().enumerate() {
            self.out.push_str(if i == 0 { first } else { rest });
            self.paint(ink, line);
            self.out.push('\n');
        }
    }

    fn paint(&mut self, ink: Ink, text: &str) {
        match ink.code().filter(|_| self.style == Style::Color) {
            Some(code) => self.out.push_str(&format!("\x1b[{code}m{text}\x1b[0m")),
            None => self.out.push_str(text),
        }
    }
}

fn title_width(title: &str) -> usize {
    title.split('\n').map(columns).max().unwrap_or(0)
}

/// Narrows columns of text until the table fits: the elastic first, then the others, the widest in turn.
fn fit(header: &[(&str, Align)], widths: &mut [usize]) {
    let mut excess = |align: Align| {
        let room = WIDTH.saturating_sub(INDENT.len() * header.len());
        while widths.iter().sum::<usize>() > room {
            let of_kind = (0..header.len()).filter(|i| header[*i].1 == align && widths[*i] > NARROWEST);
            let Some(widest) = of_kind.max_by_key(|i| widths[*i]) else { return };
            widths[widest] -= 1;
        }
    };
    excess(Align::Elastic);
    excess(Align::Left);
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr as _;

    use super::*;

    fn page(f: impl FnOnce(&mut Page)) -> String {
        let mut page = Page::new(Style::Plain, KnownSecrets::none());
        f(&mut page);
        page.finish()
    }

    #[test]
    fn a_value_hangs_under_its_first_line() {
        let text = page(|p| p.pair("label", &"word ".repeat(30)));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() == 2 && lines.iter().all(|l| columns(l) <= WIDTH));
        assert!(lines[0].starts_with("  label               word"));
        assert!(lines[1].starts_with("                      word"));
    }

    #[test]
    fn columns_align_by_their_widest_cell_and_have_no_trailing_space() {
        let text = page(|p| {
            p.table(
                &[("pid", Align::Right), ("name", Align::Left)],
                &[vec!["1".into(), "a".into()], vec!["12345".into(), "bash".into()]],
            );
        });
        assert_eq!(text, "    pid  name\n      1  a\n  12345  bash\n");
    }

    #[test]
    fn a_title_of_two_lines_stands_over_one_of_one() {
        let header = [("n", Align::Left), ("TTFT\np50", Align::Right), ("\np99", Align::Right)];
        let text = page(|p| p.table(&header, &[vec!["1".into(), "2".into(), "3".into()]]));
        assert_eq!(text, "     TTFT\n  n   p50  p99\n  1     2    3\n");
    }

    #[test]
    fn a_table_that_is_too_wide_cuts_text_and_no_figure() {
        let header =
            [("n", Align::Right), ("role", Align::Left), ("command", Align::Elastic), ("m", Align::Right)];
        let row = |role: usize, command: usize| {
            vec!["1".repeat(30), "r".repeat(role), "c".repeat(command), "2".repeat(30)]
        };
        let last = |row| page(|p| p.table(&header, &[row])).lines().last().unwrap().to_owned();
        let fits = last(row(12, 20));
        assert!(!fits.contains('…') && columns(&fits) == WIDTH, "{fits}");
        // The elastic column gives way, and the other only where that is not enough.
        let cut = last(row(12, 40));
        assert!(cut.contains(&"r".repeat(12)) && cut.contains(&format!(" {}… ", "c".repeat(19))), "{cut}");
        let cut = last(row(40, 40));
        assert!(cut.contains(&format!(" {}… ", "r".repeat(25))) && cut.contains(" ccccc… "), "{cut}");
        assert!(cut.contains(&"1".repeat(30)) && cut.ends_with(&"2".repeat(30)));
        assert_eq!(columns(&cut), WIDTH);
    }

    #[test]
    fn columns_stay_straight_under_names_of_any_script() {
        let names = ["推理服务器", "🙂 serving", "cafe\u{301}", "vllm"];
        let rows: Vec<Vec<String>> = names.iter().map(|name| vec![(*name).into(), "7".into()]).collect();
        let text = page(|p| {
            p.table(&[("command", Align::Elastic), ("threads", Align::Right)], &rows);
            p.pair("推理服务器", "value");
            p.pair("label", "value");
            p.tagged(Ink::Warn, "警告", &"word ".repeat(30));
        });
        let at = |line: &str, what: &str| line.find(what).map(|at| line[..at].width());
        let lines: Vec<&str> = text.lines().collect();
        for row in &lines[1..5] {
            assert_eq!(at(row, "7"), Some(lines[0].width() - 1), "{text}");
        }
        for pair in &lines[5..7] {
            assert_eq!(at(pair, "value"), Some(INDENT.len() + LABEL), "{text}");
        }
        assert_eq!(at(lines[7], "word"), at(lines[8], "word"), "{text}");
        assert!(lines.iter().all(|line| line.width() <= WIDTH), "{text}");
    }

    #[test]
    fn foreign_text_cannot_steer_the_terminal() {
        const FOREIGN: &str = "\x1b[2Jgone\r\n\u{9b}1A \u{202e}txet\u{200b}";
        let text = page(|p| {
            p.pair(FOREIGN, FOREIGN);
            p.text(Ink::Plain, FOREIGN);
            p.note(Ink::Plain, FOREIGN);
            p.heading(FOREIGN);
            p.tagged(Ink::Warn, FOREIGN, FOREIGN);
            p.table(&[("name", Align::Left)], &[vec![FOREIGN.into()]]);
        });
        assert!(
            !text.chars().any(|c| c != '\n' && (c.is_control() || "\u{202e}\u{200b}".contains(c))),
            "{text:?}"
        );
        assert_eq!(text.matches("\\x1b[2Jgone\\r\\n\\u{9b}1A \\u{202e}txet\\u{200b}").count(), 8, "{text}");
    }

    #[test]
    fn colour_is_only_written_when_asked_for() {
        let mut p = Page::new(Style::Color, KnownSecrets::none());
        p.tagged(Ink::Warn, "warn", "x");
        assert_eq!(p.finish(), "  \x1b[33mwarn\x1b[0m  x\n");
        assert_eq!(page(|p| p.tagged(Ink::Warn, "warn", "x")), "  warn  x\n");
    }
}
