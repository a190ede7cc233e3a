//! Texts of an image as texts of a page, whatever they hold.

use crate::inspect::table::plain;
use whittle_image::{bounded, display_size};

/// Bytes of one text.
const TEXT: usize = 4096;

/// As a text of the page, or as the value of an attribute in double quotes.
pub(crate) fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in plain(&bounded(text.to_owned(), TEXT)).chars() {
        match c {
            '&' => shown.push_str("&amp;"),
            '<' => shown.push_str("&lt;"),
            '>' => shown.push_str("&gt;"),
            '"' => shown.push_str("&quot;"),
            '\'' => shown.push_str("&#39;"),
            c => shown.push(c),
        }
    }
    shown
}

/// At most so many characters.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => text
            .chars()
            .take(most.saturating_sub(1))
            .chain(['…'])
            .collect(),
        false => text.to_owned(),
    }
}

/// Bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    display_size(i64::try_from(bytes).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_an_element_or_an_attribute_or_turns_a_line() {
        let text = "</td>\"'&\u{202e}\u{1b}[31m";
        assert_eq!(
            escaped(text),
            "&lt;/td&gt;&quot;&#39;&amp;\\u{202e}\\u{1b}[31m"
        );
        assert_eq!(shortened("äöü", 3), "äöü");
        assert_eq!(shortened("äöüß", 3), "äö…");
    }
}
