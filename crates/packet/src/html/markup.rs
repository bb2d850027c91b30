//! Writes HTML. Markup comes only from constants of this crate, and every text is escaped.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pipelock_receipts::findings::visible;
use sha2::{Digest, Sha256};

const MAX_CHARACTERS: usize = 300;
/// Length of the longest option that stays on one line, in bytes and without `--`.
const LONGEST_OPTION: usize = 24;
/// Number of rows of a long table that are not folded, and length of the longest table without folded rows.
const OPEN: usize = 20;
const MOST_OPEN: usize = 25;
/// The style of the page. The page's content security policy allows only the digest of this style.
const STYLE: &str = include_str!("style.css");

/// The limits of one list or table. The limits bound the size of the page, whatever the names are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

/// The tables about attempts, changes, and destinations.
pub(super) const LONG: Limit = Limit {
    rows: 100,
    bytes: 96 << 10,
};
/// The other tables and lists.
pub(super) const SHORT: Limit = Limit {
    rows: 200,
    bytes: 32 << 10,
};

/// The content of a cell.
#[derive(Debug, Clone)]
pub(super) enum Cell {
    /// Text from egress, or a number.
    Text(String),
    /// Text from the run.
    Code(String),
    /// Several contents, one per line.
    Lines(Vec<Cell>),
    /// A number of bytes in words, and its share of the largest number in hundredths.
    Bar(String, u64),
    /// Markup that was already written.
    Drawing(Html),
}

/// A page, or a part of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Html(String);

impl Html {
    /// Returns the start of a page, up to the body.
    pub(super) fn start(title: &str) -> Self {
        let digest = STANDARD.encode(Sha256::digest(STYLE));
        let title = escaped(title);
        Self(format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
             'sha256-{digest}'; base-uri 'none'; form-action 'none'\">\n\
             <meta name=\"referrer\" content=\"no-referrer\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        ))
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds markup. The markup is always a constant of this crate.
    pub(super) fn raw(&mut self, markup: &'static str) {
        self.0.push_str(markup);
    }

    /// Adds a number in markup.
    pub(super) fn number(&mut self, number: u64) {
        self.0.push_str(&number.to_string());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.0.push_str(&escaped(text));
    }

    /// Adds text from the run. The text cannot change the reading direction of the text around it. A long text breaks
    /// before its port and after the parts of its words, so that no number is divided.
    pub(super) fn code(&mut self, text: &str) {
        let text = shortened(text, MAX_CHARACTERS);
        let (text, port) = text.split_at(text.len().saturating_sub(port_length(&text)));
        self.raw("<code>");
        self.words(text, "<span class=\"option\">", "</span>", Self::breakable);
        if !port.is_empty() {
            self.raw("<wbr>");
            self.text(port);
        }
        self.raw("</code>");
    }

    /// Adds text with `write`. An option in the text is between `begin` and `end`, whose class keeps it on one line.
    fn words(
        &mut self,
        text: &str,
        begin: &'static str,
        end: &'static str,
        write: fn(&mut Self, &str),
    ) {
        for word in text.split_inclusive(' ') {
            let option = word.trim_end_matches(' ');
            if is_option(option) {
                self.raw(begin);
                self.text(option);
                self.raw(end);
                self.text(word.strip_prefix(option).unwrap_or_default());
            } else {
                write(self, word);
            }
        }
    }

    /// Adds text that may break after each `_`, and after the `:` of a code such as `allowlist:not_in_allowlist`.
    fn breakable(&mut self, text: &str) {
        let mut rest = text;
        while let Some(at) = first_break(rest) {
            let (part, next) = rest.split_at(at);
            self.text(part);
            self.raw("<wbr>");
            rest = next;
        }
        self.text(rest);
    }

    pub(super) fn paragraph(&mut self, text: &str) {
        self.raw("<p>");
        self.text(text);
        self.raw("</p>\n");
    }

    /// Adds the number of rows that are not shown, if there are any.
    pub(super) fn more(&mut self, count: u64) {
        if count > 0 {
            self.note(&format!("and {count} more"));
        }
    }

    /// Adds a note below a list or a drawing about what it leaves out.
    pub(super) fn note(&mut self, text: &str) {
        self.raw("<p class=\"more\">");
        self.text(text);
        self.raw("</p>\n");
    }

    /// Adds a block of lines to copy. A long block can be scrolled with the keyboard.
    pub(super) fn block(&mut self, text: &str) {
        self.raw("<pre tabindex=\"0\">");
        let mut lines = text.lines();
        if let Some(line) = lines.next() {
            self.text(line);
        }
        for line in lines {
            self.raw("\n");
            self.text(line);
        }
        self.raw("</pre>\n");
    }

    /// Begins a section, which ends with `</section>`.
    pub(super) fn section(&mut self, title: &'static str) {
        self.raw("<section aria-label=\"");
        self.text(title);
        self.raw("\">\n<h2>");
        self.text(title);
        self.raw("</h2>\n");
    }

    /// Adds a table with a caption, and returns the number of rows that the limit left out. The first cell of each
    /// row is its header. The end of a long table is folded, so that the next section is near.
    pub(super) fn table<const N: usize>(
        &mut self,
        caption: &str,
        head: &[&'static str; N],
        rows: impl IntoIterator<Item = [Cell; N]>,
        limit: Limit,
    ) -> u64 {
        let most = self.len().saturating_add(limit.bytes);
        let rows: Vec<[Cell; N]> = rows.into_iter().collect();
        let mut is_folded = false;
        self.begin_table(caption, head);
        let mut left_out = 0_u64;
        for (number, row) in rows.iter().enumerate() {
            if number >= limit.rows || self.len() > most {
                left_out = left_out.saturating_add(1);
                continue;
            }
            if number == OPEN && rows.len() > MOST_OPEN {
                is_folded = true;
                self.raw("</tbody>\n</table>\n<details>\n<summary>More rows</summary>\n");
                self.begin_table(caption, head);
            }
            self.row(head, row);
        }
        self.raw("</tbody>\n</table>\n");
        if is_folded {
            self.raw("</details>\n");
        }
        left_out
    }

    /// Begins a table. Explicit roles preserve its meaning where the style shows rows as blocks.
    fn begin_table(&mut self, caption: &str, head: &[&'static str]) {
        self.raw("<table role=\"table\">\n<caption>");
        self.text(caption);
        self.raw("</caption>\n<thead role=\"rowgroup\"><tr role=\"row\">");
        for title in head {
            self.raw("<th role=\"columnheader\" scope=\"col\">");
            self.text(title);
            self.raw("</th>");
        }
        self.raw("</tr></thead>\n<tbody role=\"rowgroup\">\n");
    }

    fn row(&mut self, head: &[&'static str], row: &[Cell]) {
        self.raw("<tr role=\"row\">");
        for (at, (title, cell)) in head.iter().zip(row).enumerate() {
            if at == 0 {
                self.raw("<th role=\"rowheader\" scope=\"row\">");
                self.cell(cell);
                self.raw("</th>");
            } else {
                self.raw("<td role=\"cell\" data-label=\"");
                self.text(title);
                self.raw("\">");
                self.cell(cell);
                self.raw("</td>");
            }
        }
        self.raw("</tr>\n");
    }

    fn cell(&mut self, cell: &Cell) {
        match cell {
            Cell::Text(text) => {
                let text = shortened(text, MAX_CHARACTERS);
                self.words(&text, "<code class=\"option\">", "</code>", Self::text);
            }
            Cell::Code(text) => self.code(text),
            Cell::Lines(cells) => {
                for cell in cells {
                    self.raw("<div>");
                    self.cell(cell);
                    self.raw("</div>");
                }
            }
            Cell::Bar(text, share) => {
                self.text(text);
                self.raw("<svg class=\"bar\" viewBox=\"0 0 100 6\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect width=\"");
                self.number(*share);
                self.raw("\" height=\"6\"/></svg>");
            }
            Cell::Drawing(drawing) => self.0.push_str(&drawing.0),
        }
    }

    /// Adds a list of texts from the run.
    pub(super) fn list(&mut self, items: &[String], limit: Limit) {
        let most = self.len().saturating_add(limit.bytes);
        let mut left_out = 0_u64;
        self.raw("<ul>\n");
        for (number, item) in items.iter().enumerate() {
            if number >= limit.rows || self.len() > most {
                left_out = left_out.saturating_add(1);
                continue;
            }
            self.raw("<li><bdi>");
            self.text(&shortened(item, MAX_CHARACTERS));
            self.raw("</bdi></li>\n");
        }
        self.raw("</ul>\n");
        self.more(left_out);
    }
}

/// Returns the length of the port at the end of a destination, with its colon, or 0 if there is no port.
fn port_length(text: &str) -> usize {
    let Some((before, port)) = text.rsplit_once(':') else {
        return 0;
    };
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && !before.is_empty() {
        port.len().saturating_add(1)
    } else {
        0
    }
}

/// Whether a word is an option of egress. Other words that start with `--` may be longer than a line.
fn is_option(word: &str) -> bool {
    let Some(name) = word.strip_prefix("--") else {
        return false;
    };
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
    (1..=LONGEST_OPTION).contains(&name.len()) && name.bytes().all(is_plain)
}

/// Returns the first place inside a text at which [`Html::breakable`] breaks it.
fn first_break(text: &str) -> Option<usize> {
    let mut last = None;
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let (_, next) = *characters.peek()?;
        let is_word = |one: char| one.is_ascii_lowercase() || one == '_';
        if character == '_' || (character == ':' && last.is_some_and(is_word) && is_word(next)) {
            return Some(at.saturating_add(character.len_utf8()));
        }
        last = Some(character);
    }
    None
}

/// Returns the visible form of a text, with at most this number of characters.
pub(super) fn shortened(text: &str, most: usize) -> String {
    let text = visible(text);
    match text.char_indices().nth(most) {
        None => text,
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
    }
}

/// Escapes a text so that it cannot be markup, end an attribute, or change the reading direction.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in visible(text).chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        let mut out = Html::default();
        out.code(text);
        out.into_text()
    }

    #[test]
    fn texts_break_before_ports_and_after_parts_of_words() {
        for (text, expected) in [
            ("gone.nowhere.test:443", "gone.nowhere.test<wbr>:443"),
            ("[2001:db8::1]:8080", "[2001:db8::1]<wbr>:8080"),
            (":443", ":443"),
            ("a.test:", "a.test:"),
            ("a.test:44x", "a.test:44x"),
            (
                "connect allowlist:not_in_allowlist",
                "connect allowlist:<wbr>not_<wbr>in_<wbr>allowlist",
            ),
            ("answered_403: x", "answered_<wbr>403: x"),
            ("http://a.test/x_", "http://a.test/x_"),
            ("_<b>_:a", "_<wbr>&lt;b&gt;_<wbr>:a"),
        ] {
            assert_eq!(code(text), format!("<code>{expected}</code>"), "{text}");
        }
    }

    #[test]
    fn options_stay_on_one_line() {
        assert_eq!(
            code("api_allowlist: [\"a.test\"] and --allow-port 8443"),
            "<code>api_<wbr>allowlist: [&quot;a.test&quot;] and <span class=\"option\">--allow-port</span> 8443</code>"
        );
        // A text from the run cannot become a long word without a line break.
        for text in ["--", "--<b>", "x--y", "--aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"] {
            assert_eq!(code(text), format!("<code>{}</code>", escaped(text)));
        }
        let mut out = Html::default();
        out.cell(&Cell::Text(String::from("x; --allow-unix opens <b>")));
        assert_eq!(
            out.into_text(),
            "x; <code class=\"option\">--allow-unix</code> opens &lt;b&gt;"
        );
    }
}
