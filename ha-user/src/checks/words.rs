//! Sentences about what others said: short, and without control characters.

use std::{error::Error, io};

/// Characters of somebody else's text that a sentence takes.
const LONGEST: usize = 160;

/// What stands behind the words of an error of the system.
const ERROR_NUMBER: &str = " (os error ";

/// One line of somebody else's text, as it may be logged and shown: without control characters and what changes
/// the direction of writing, and not longer than a line.
pub(crate) fn clean(text: &str) -> String {
    let shown = |c: char| {
        !c.is_control()
            && !matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let words = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty());
    let mut line = String::new();
    for word in words {
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().filter(|c| shown(*c)));
        if line.chars().nth(LONGEST).is_some() {
            line = line.chars().take(LONGEST - 1).collect();
            line.push('…');
            break;
        }
    }
    line
}

/// An error of the system without its number.
pub(crate) fn of_io(error: &io::Error) -> String {
    let words = error.to_string();
    let end = words.find(ERROR_NUMBER).unwrap_or(words.len());
    clean(&words[..end])
}

/// An error with what caused it, each once.
pub(crate) fn of_error(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        cause = error.source();
    }
    let end = words.find(ERROR_NUMBER).unwrap_or(words.len());
    clean(&words[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_bounded_and_has_nothing_that_a_terminal_obeys() {
        assert_eq!(
            clean("  disk\tfull\r\n\u{1b}[31m!\u{7} "),
            "disk full [31m!"
        );
        assert_eq!(clean("a\u{202e}b\0c"), "ab c");
        let long = clean(&"x".repeat(100_000));
        assert_eq!(long.chars().count(), LONGEST);
        assert!(long.ends_with('…'));
        assert_eq!(clean(&"é".repeat(LONGEST)), "é".repeat(LONGEST));
    }

    #[test]
    fn errors_of_the_system_have_no_numbers() {
        let refused = io::Error::from_raw_os_error(libc::ECONNREFUSED);
        assert_eq!(of_io(&refused), "Connection refused");
        assert_eq!(of_error(&refused), "Connection refused");
        assert_eq!(of_io(&io::Error::other("words")), "words");
    }
}
