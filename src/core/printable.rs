//! [`printable`]: text from files and folders as a terminal may be given it.

use std::borrow::Cow;
use std::fmt::Write;

/// `text` with the control characters that a terminal would obey as `\u001b`, which JSON's strings understand too; line ends and tabs stay.
pub fn printable(text: &str) -> Cow<'_, str> {
    let is_obeyed = |letter: char| letter.is_control() && !['\n', '\t'].contains(&letter);
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_obeyed(letter) {
            let _ = write!(shown, "\\u{:04x}", u32::from(letter));
        } else {
            shown.push(letter);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_spelled_out() {
        assert_eq!(printable("two\n\tlines é 中"), "two\n\tlines é 中");
        assert_eq!(
            printable("a\u{1b}[31mb\u{9b}2Jc\u{7f}\r"),
            "a\\u001b[31mb\\u009b2Jc\\u007f\\u000d"
        );
    }
}
