//! Words: quotes, escapes and what the shell fills in.

use super::{Piece, Read, Reader, Shell, Word};

impl Reader {
    pub(super) fn word_or_nothing(&mut self) -> Read<Word> {
        let mut word = Word::default();
        let begin = self.at;
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\n' | ';' | '&' | '|' | '<' | '>' | '(' | ')' => break,
                '`' if self.in_backquotes => break,
                '\'' => {
                    self.at += 1;
                    word.quoted = true;
                    word.pieces.push(Piece::Text(String::new()));
                    loop {
                        match self.peek() {
                            None => return Err("it has a quote that is not closed"),
                            Some('\'') => break,
                            Some(c) => word.push(c),
                        }
                        self.at += 1;
                    }
                    self.at += 1;
                }
                '"' => self.double_quotes(&mut word)?,
                '\\' => {
                    self.at += 1;
                    match self.peek() {
                        Some('\n') => {}
                        Some(c) => {
                            word.quoted = true;
                            word.push(c);
                        }
                        None => return Err("it ends with a backslash"),
                    }
                    self.at += 1;
                }
                '$' => self.dollar(&mut word, false)?,
                '`' => self.backquotes(&mut word)?,
                // A lone bracket is the command of that name; braces are plain in POSIX, not in bash.
                '*' | '?' | '[' | '{' if !self.alone(begin) => {
                    self.at += 1;
                    word.pieces.push(Piece::Other(c.to_string()));
                }
                '~' if self.at == begin => {
                    self.at += 1;
                    word.pieces.push(Piece::Other(c.to_string()));
                }
                c => {
                    self.at += 1;
                    word.push(c);
                }
            }
        }
        // Pieces of text that touch are one.
        let mut joined: Vec<Piece> = Vec::new();
        for piece in word.pieces {
            match (joined.last_mut(), piece) {
                (Some(Piece::Text(text)), Piece::Text(more)) => text.push_str(&more),
                (_, piece) => joined.push(piece),
            }
        }
        word.pieces = joined;
        Ok(word)
    }

    /// True for `[` and `[[` as words of their own.
    fn alone(&self, begin: usize) -> bool {
        let end = |at: usize| {
            self.text
                .get(at)
                .is_none_or(|c| matches!(c, ' ' | '\t' | '\n'))
        };
        self.peek() == Some('[')
            && ((self.at == begin && (end(begin + 1) || (self.sees("[[") && end(begin + 2))))
                || (self.at == begin + 1 && self.text.get(begin) == Some(&'[') && end(begin + 2)))
    }

    fn double_quotes(&mut self, word: &mut Word) -> Read<()> {
        self.at += 1;
        word.quoted = true;
        word.pieces.push(Piece::Text(String::new()));
        loop {
            match self.peek() {
                None => return Err("it has a quote that is not closed"),
                Some('"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some('\\') => {
                    self.at += 1;
                    match self.peek() {
                        Some(c @ ('$' | '`' | '"' | '\\')) => word.push(c),
                        Some('\n') => {}
                        Some(c) => {
                            word.push('\\');
                            word.push(c);
                        }
                        None => return Err("it has a quote that is not closed"),
                    }
                    self.at += 1;
                }
                Some('$') => self.dollar(word, true)?,
                Some('`') => self.backquotes(word)?,
                Some(c) => {
                    word.push(c);
                    self.at += 1;
                }
            }
        }
    }

    fn backquotes(&mut self, word: &mut Word) -> Read<()> {
        if self.in_backquotes {
            return Err("it has backquotes within backquotes");
        }
        self.at += 1;
        self.in_backquotes = true;
        let output = self.output("`", "it has a quote that is not closed")?;
        self.in_backquotes = false;
        word.pieces.push(output);
        Ok(())
    }

    /// Commands up to `end`, whose output stands in their place; `open`: what is said where that is missing.
    fn output(&mut self, end: &'static str, open: &'static str) -> Read<Piece> {
        let node = self.list(&[end])?;
        if !self.eats(end) {
            return Err(open);
        }
        Ok(Piece::Output(Box::new(node)))
    }

    fn name(&mut self) -> String {
        let begin = self.at;
        while self.peek().is_some_and(|c| {
            c == '_' || c.is_ascii_alphabetic() || (c.is_ascii_digit() && self.at > begin)
        }) {
            self.at += 1;
        }
        self.text[begin..self.at].iter().collect()
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
        if self.shell == Shell::Bash || length.is_some_and(|rest| rest.is_empty()) {
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
            || self.shell == Shell::Busybox && rest.starts_with(['/', ':'])
    }

    fn dollar(&mut self, word: &mut Word, quoted: bool) -> Read<()> {
        self.at += 1;
        match self.peek() {
            Some('(') if self.sees("((") => Err("it has arithmetic"),
            Some('(') => {
                self.at += 1;
                let outer = std::mem::take(&mut self.in_backquotes);
                let output = self.output(")", "it has a parenthesis that is not closed")?;
                self.in_backquotes = outer;
                word.pieces.push(output);
                Ok(())
            }
            Some('{') => {
                let begin = self.at + 1;
                self.at = begin;
                let name = self.name();
                if !name.is_empty() && self.eats("}") {
                    word.pieces.push(Piece::Variable(name));
                    return Ok(());
                }
                // Its operators are not followed, but commands in it would be run.
                loop {
                    match self.peek() {
                        Some('}') => break,
                        Some('$' | '`' | '\'' | '"' | '\\' | '{') | None => {
                            return Err("it has a substitution within ${…}");
                        }
                        Some(_) => self.at += 1,
                    }
                }
                let text: String = self.text[begin..self.at].iter().collect();
                if !self.expands(&text) {
                    return Err("it has an expansion that not every shell reads");
                }
                self.at += 1;
                word.pieces.push(Piece::Other(format!("${{{text}}}")));
                Ok(())
            }
            Some('\'' | '"') if !quoted => Err("it has a quote of bash"),
            Some(c @ ('?' | '$' | '!' | '#' | '*' | '@' | '-' | '0'..='9')) => {
                self.at += 1;
                word.pieces.push(Piece::Other(format!("${c}")));
                Ok(())
            }
            _ => {
                let name = self.name();
                if name.is_empty() {
                    word.push('$');
                } else {
                    word.pieces.push(Piece::Variable(name));
                }
                Ok(())
            }
        }
    }
}
