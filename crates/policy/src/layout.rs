//! Texts for mistakes in the layout of a policy: tabs, indentation, and unquoted wildcards.

/// Returns the text for an unquoted `*`, which YAML reads as an alias. A name with a dot after `*` counts as a host,
/// because the names of aliases rarely contain a dot.
fn unquoted_wildcard(source: &str) -> Option<String> {
    let is_host = |byte: char| byte.is_ascii_alphanumeric() || "*._-".contains(byte);
    let wildcards = source.match_indices('*').filter_map(|(at, _)| {
        let (before, rest) = source.split_at_checked(at)?;
        if !before.ends_with([' ', '[', ',', '\t']) {
            return None;
        }
        let end = rest.find(|letter| !is_host(letter)).unwrap_or(rest.len());
        rest.get(..end)
    });
    let mut wildcards = wildcards.filter(|word| *word == "*" || word.contains('.'));
    let wildcard = wildcards.next()?;
    Some(format!(
        "an unquoted `*` is a YAML alias; quote the entry: \"{wildcard}\""
    ))
}

/// Searches the lines up to `stopped`, at which the parser stopped, for a tab, a wrong indentation, or an unquoted `*`.
/// Returns the line and the text of the first mistake.
pub(super) fn mistake(text: &str, stopped: u64) -> Option<(u64, String)> {
    let mut levels: Vec<usize> = vec![0];
    let mut above = "";
    for (number, source) in numbered(text) {
        if stopped > 0 && number > stopped {
            break;
        }
        let content = source.trim_start();
        let indentation = source.len().saturating_sub(content.len());
        if source
            .get(..indentation)
            .is_some_and(|start| start.contains('\t'))
        {
            let what = "the line starts with a tab; indent with spaces";
            return Some((number, what.to_owned()));
        }
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        if number == stopped {
            if let Some(what) = unquoted_wildcard(source) {
                return Some((number, what));
            }
            let deepest = levels.last().copied().unwrap_or_default();
            let opens = above.trim_end().ends_with(':') || above.is_empty();
            let fits = if indentation > deepest {
                opens
            } else {
                levels.contains(&indentation)
            };
            if !fits {
                let what = "the indentation does not match any line above it; indent keys and items of one level by the same number of spaces";
                return Some((number, what.to_owned()));
            }
        }
        levels.retain(|level| *level < indentation);
        levels.push(indentation);
        above = content;
    }
    None
}

/// Returns the lines of a document with their numbers.
fn numbered(text: &str) -> impl Iterator<Item = (u64, &str)> {
    (1..).zip(text.lines())
}
