//! What the shell fills in within words, as far as the strict reader knows it.

use super::{Piece, Read, Reader, Shell, Strict, Word};
use crate::shell::lexer::Mode;

impl Mode for Strict {
    type Fault = &'static str;

    fn unclosed(why: &'static str) -> Read<()> {
        Err(why)
    }

    fn ends_word(&self, c: char) -> bool {
        matches!(c, ' ' | '\t' | '\n') || (c == '`' && self.in_backquotes)
    }

    fn parenthesis(_: &mut Reader, _: &Word) -> Read<bool> {
        Ok(false)
    }

    fn backquotes(reader: &mut Reader, word: &mut Word) -> Read<()> {
        if reader.mode.in_backquotes {
            return Err("it has backquotes within backquotes");
        }
        reader.at += 1;
        reader.mode.in_backquotes = true;
        let output = reader.output("`", "syntax error: missing closing quote")?;
        reader.mode.in_backquotes = false;
        word.pieces.push(output);
        Ok(())
    }

    fn dollar_quote(_: &mut Reader, _: &mut Word) -> Read<()> {
        Err("it has a quote of bash")
    }

    fn arithmetic(_: &mut Reader, _: &mut Word) -> Read<()> {
        Err("it has arithmetic")
    }

    fn commands(reader: &mut Reader, word: &mut Word) -> Read<()> {
        let outer = std::mem::take(&mut reader.mode.in_backquotes);
        let output = reader.output(")", "syntax error: missing )")?;
        reader.mode.in_backquotes = outer;
        word.pieces.push(output);
        Ok(())
    }

    fn parameter(reader: &mut Reader, word: &mut Word, _: usize) -> Read<()> {
        let begin = reader.at;
        let name = reader.name();
        if !name.is_empty() && reader.eats("}") {
            word.pieces.push(Piece::Variable(name));
            return Ok(());
        }
        // Its operators are not followed, but commands in it would be run.
        loop {
            match reader.peek() {
                Some('}') => break,
                Some('$' | '`' | '\'' | '"' | '\\' | '{') | None => {
                    return Err("it has a substitution within ${…}");
                }
                Some(c) => reader.at += c.len_utf8(),
            }
        }
        let text = &reader.text[begin..reader.at];
        if !reader.expands(text) {
            return Err("it uses an expansion that not every shell supports");
        }
        reader.at += 1;
        word.pieces.push(Piece::Other(format!("${{{text}}}")));
        Ok(())
    }

    fn variable(&mut self, _: &str, _: usize) {}
}

impl Reader<'_> {
    /// Commands up to `end`, whose output stands in their place; `open`: what is said where that is missing.
    fn output(&mut self, end: &'static str, open: &'static str) -> Read<Piece> {
        let node = self.list(&[end])?;
        if !self.eats(end) {
            return Err(open);
        }
        Ok(Piece::Output(Box::new(node)))
    }

    /// True for what stands in `${…}` where this shell knows it: elsewhere it is a bad substitution, which ends the
    /// script.
    fn expands(&self, text: &str) -> bool {
        let behind = |text: &str| -> Option<String> {
            let mut signs = text.chars();
            let first = signs.next()?;
            let length = match first {
                '0'..='9' => text.bytes().take_while(u8::is_ascii_digit).count(),
                '_' | 'a'..='z' | 'A'..='Z' => text
                    .bytes()
                    .take_while(|b| *b == b'_' || b.is_ascii_alphanumeric())
                    .count(),
                '?' | '$' | '!' | '#' | '*' | '@' | '-' => 1,
                _ => return None,
            };
            Some(text[length..].to_owned())
        };
        let length = text.strip_prefix('#').and_then(behind);
        if self.mode.shell == Shell::Bash || length.is_some_and(|rest| rest.is_empty()) {
            return true;
        }
        let Some(rest) = behind(text) else {
            return false;
        };
        rest.is_empty()
            || rest.starts_with(['-', '=', '?', '+', '%', '#'])
            || [":-", ":=", ":?", ":+"]
                .iter()
                .any(|op| rest.starts_with(op))
            || self.mode.shell == Shell::Busybox && rest.starts_with(['/', ':'])
    }
}
