//! Texts of others, on their way into what people read: cut, and cleaned of what a terminal would act on.

/// Bytes that are kept of what others say.
pub const WORDS: usize = 1024;

/// Cuts a text to at most `most` bytes, at a character's edge.
pub fn bounded(mut text: String, most: usize) -> String {
    if text.len() > most {
        let mut end = most.saturating_sub('…'.len_utf8());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

/// True for what has no width, or turns the text behind it round.
pub fn turns_text(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Others' words, cut, without what moves a terminal's cursor or turns text round.
pub fn words(text: &str) -> String {
    let clean: String = text
        .chars()
        .take(WORDS)
        .filter(|c| !turns_text(*c))
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    bounded(clean.trim().to_owned(), WORDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_at_a_characters_edge() {
        assert_eq!(bounded("äöü".into(), 5), "ä…");
        assert_eq!(bounded("abc".into(), 3), "abc");
    }
}
