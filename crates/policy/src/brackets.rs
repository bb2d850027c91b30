//! Texts for brackets and quotes that a policy opens and does not close. The YAML parser often stops only at a later
//! line, which has no mistake.

/// The state of the search between two characters.
struct Search {
    /// The open brackets, outermost first, each with its place.
    open: Vec<(char, Place)>,
    /// The open quote and its place.
    quote: Option<(char, Place)>,
    /// The last character that is not a space, or a line feed at the start of a line.
    last: char,
    /// Whether a space follows `last`.
    is_apart: bool,
}

/// Line and column, from 1.
type Place = (u64, usize);

/// Searches for a bracket or a quote that is not closed, and for a bracket that closes nothing. A place after the line
/// `stopped`, at which the parser stopped, does not count. Returns the line and the text of the mistake.
pub(super) fn mistake(text: &str, stopped: u64) -> Option<(u64, String)> {
    let mut search = Search {
        open: Vec::new(),
        quote: None,
        last: '\n',
        is_apart: false,
    };
    let ((line, column), what) = search.first(text)?;
    (stopped == 0 || line <= stopped).then(|| {
        let (subject, advice) = what;
        (line, format!("{subject} in column {column} {advice}"))
    })
}

/// A mistake: its place, and its text before and after the column.
type Mistake = (Place, (String, &'static str));

impl Search {
    fn first(&mut self, text: &str) -> Option<Mistake> {
        for (number, line) in (1..).zip(text.lines()) {
            let mut letters = (1..).zip(line.chars()).peekable();
            self.last = '\n';
            while let Some((column, letter)) = letters.next() {
                let next = letters.peek().map(|(_, next)| *next);
                if self.quote.is_some() {
                    if self.skips(letter, next) {
                        letters.next();
                    }
                    continue;
                }
                if letter == '#' && (self.last == '\n' || self.is_apart) {
                    break;
                }
                let found = self.read(letter, (number, column));
                if found.is_some() {
                    return found;
                }
            }
        }
        let unclosed = self.quote.or_else(|| self.open.last().copied());
        unclosed.map(|(letter, place)| never_closed(letter, place))
    }

    /// Reads a character inside a quote. Returns whether the next character belongs to this one.
    fn skips(&mut self, letter: char, next: Option<char>) -> bool {
        let Some((quote, _)) = self.quote else {
            return false;
        };
        match (quote, letter) {
            ('"', '\\') => true,
            ('\'', '\'') if next == Some('\'') => true,
            (quote, letter) if quote == letter => {
                (self.quote, self.last, self.is_apart) = (None, letter, false);
                false
            }
            _ => false,
        }
    }

    /// Reads a character outside quotes and comments.
    fn read(&mut self, letter: char, place: Place) -> Option<Mistake> {
        match letter {
            ' ' | '\t' => {
                self.is_apart = true;
                return None;
            }
            '"' | '\'' if self.starts_value() => self.quote = Some((letter, place)),
            '[' | '{' if !self.open.is_empty() || self.starts_value() => {
                self.open.push((letter, place));
            }
            ']' | '}' => match self.open.pop() {
                Some((open, opened)) if closing(open) != letter => {
                    return Some(never_closed(open, opened));
                }
                None if matches!(self.last, ']' | '}') => {
                    let subject = format!("the `{letter}`");
                    return Some((place, (subject, "closes nothing; remove it")));
                }
                Some(_) | None => {}
            },
            _ => {}
        }
        (self.last, self.is_apart) = (letter, false);
        None
    }

    /// Whether a value may start here. Inside a value, brackets and quotes are ordinary characters.
    fn starts_value(&self) -> bool {
        match self.last {
            '\n' | '[' | '{' | ',' => true,
            ':' | '-' | '?' => self.is_apart || !self.open.is_empty(),
            _ => false,
        }
    }
}

fn closing(open: char) -> char {
    if open == '[' { ']' } else { '}' }
}

fn never_closed(open: char, place: Place) -> Mistake {
    let advice = match open {
        '[' => "is not closed; add `]` after the last item",
        '{' => "is not closed; add `}` after the last key",
        _ => "is not closed; add the same quote at the end of the text",
    };
    (place, (format!("the `{open}`"), advice))
}
