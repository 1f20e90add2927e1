//! A line of text to words and back: bare words, `key=value` pairs, quoted texts.

/// One word of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// What stands before the `=`.
    pub(super) key: Option<String>,
    /// The word, or what stands after it; without quotes.
    pub(super) value: String,
}

/// The words of a line; a comment ends it.
pub(super) fn split(line: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() && !rest.starts_with('#') {
        let end = rest.find([' ', '=', '"']).unwrap_or(rest.len());
        let key = rest[end..].strip_prefix('=').map(|after| (rest[..end].to_owned(), after));
        let (key, after) = key.map_or((None, rest), |(key, after)| (Some(key), after));
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after.find(' ').unwrap_or(after.len());
                (after[..end].to_owned(), &after[end..])
            }
        };
        words.push(Word { key, value });
        rest = after.trim_start();
    }
    Ok(words)
}

/// The text up to the closing quote, and what follows it.
fn unquote(quoted: &str) -> Result<(String, &str), String> {
    let mut text = String::new();
    let mut rest = quoted;
    loop {
        let mut chars = rest.chars();
        match chars.next() {
            None => return Err("a text has no closing quote".into()),
            Some('"') => return Ok((text, chars.as_str())),
            Some('\\') => {
                let (c, after) = unescape(chars.as_str())?;
                text.push(c);
                rest = after;
            }
            Some(c) => {
                text.push(c);
                rest = chars.as_str();
            }
        }
    }
}

/// The character that an escape stands for, and what follows it.
fn unescape(escape: &str) -> Result<(char, &str), String> {
    let wrong = || format!("`\\{}` is no escape", escape.chars().next().unwrap_or(' '));
    if let Some(code) = escape.strip_prefix("u{") {
        let (digits, after) = code.split_once('}').ok_or_else(wrong)?;
        let number = u32::from_str_radix(digits, 16).map_err(|_| wrong())?;
        return char::from_u32(number).map(|c| (c, after)).ok_or_else(wrong);
    }
    let mut chars = escape.chars();
    let c = match chars.next() {
        Some('n') => '\n',
        Some(c @ ('"' | '\\')) => c,
        _ => return Err(wrong()),
    };
    Ok((c, chars.as_str()))
}

/// A text in quotes, on one line.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if c.is_control() || ('\u{202a}'..='\u{2069}').contains(&c) => {
                out.push_str(&format!("\\u{{{:x}}}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_comes_back_from_its_quotes(text: String, key in "[a-z_]{1,8}") {
            let words = split(&format!("{key}={} {}", quote(&text), quote(&text))).unwrap();
            let expected = [
                Word { key: Some(key), value: text.clone() },
                Word { key: None, value: text },
            ];
            prop_assert_eq!(words, expected);
        }

        #[test]
        fn any_line_is_split_or_refused(line: String) {
            let _ = split(&line);
        }
    }

    #[test]
    fn what_reorders_a_terminals_text_is_escaped() {
        assert_eq!(quote("a\u{1b}[2J\u{202e}b"), r#""a\u{1b}[2J\u{202e}b""#);
    }
}
