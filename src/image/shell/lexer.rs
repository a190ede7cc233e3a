//! Words of a shell's text: quotes, escapes, and where the shell fills something in. One reader for the two that read
//! the language: the strict one, which refuses what it does not know, and the tolerant one, which takes any text.

use super::syntax::{Piece, Word};

/// How deep commands may stand within commands.
pub(super) const DEPTH: usize = 24;

/// Why a text is refused.
pub(super) type Read<T> = Result<T, &'static str>;

/// A text, and how far it is read.
pub(super) struct Reader<'a, M> {
    pub(super) text: &'a str,
    pub(super) at: usize,
    pub(super) depth: usize,
    pub(super) mode: M,
}

/// What the two readers do otherwise within words. Each is called behind the sign that is named.
pub(super) trait Mode: Sized {
    /// What a text may be refused for: nothing, for the tolerant one.
    type Fault;

    /// What ends too early, or is not closed: refused, or the end of it.
    fn unclosed(why: &'static str) -> Result<(), Self::Fault>;
    /// True for what ends a word besides operators.
    fn ends_word(&self, c: char) -> bool;
    /// Before `(` within a word: true where the word goes on behind what it opens.
    fn parenthesis(reader: &mut Reader<'_, Self>, word: &Word) -> Result<bool, Self::Fault>;
    /// A backquote, which is not read yet.
    fn backquotes(reader: &mut Reader<'_, Self>, word: &mut Word) -> Result<(), Self::Fault>;
    /// `$` before a quote.
    fn dollar_quote(reader: &mut Reader<'_, Self>, word: &mut Word) -> Result<(), Self::Fault>;
    /// `$` before `((`.
    fn arithmetic(reader: &mut Reader<'_, Self>, word: &mut Word) -> Result<(), Self::Fault>;
    /// `$(`.
    fn commands(reader: &mut Reader<'_, Self>, word: &mut Word) -> Result<(), Self::Fault>;
    /// `${`; `begin`: where the `$` stands.
    fn parameter(
        reader: &mut Reader<'_, Self>,
        word: &mut Word,
        begin: usize,
    ) -> Result<(), Self::Fault>;
    /// `$name`, which began at `begin`.
    fn variable(&mut self, name: &str, begin: usize);
}

impl<M> Reader<'_, M> {
    pub(super) fn peek(&self) -> Option<char> {
        self.char_at(self.at)
    }

    pub(super) fn char_at(&self, at: usize) -> Option<char> {
        self.text.get(at..)?.chars().next()
    }

    pub(super) fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    pub(super) fn sees(&self, what: &str) -> bool {
        self.text
            .get(self.at..)
            .is_some_and(|rest| rest.starts_with(what))
    }

    /// The rest of a comment's line.
    pub(super) fn comment(&mut self) {
        while self.peek().is_some_and(|c| c != '\n') {
            self.next();
        }
    }

    /// The name that comes next; empty where none does.
    pub(super) fn name(&mut self) -> String {
        let begin = self.at;
        while self.peek().is_some_and(|c| {
            c == '_' || c.is_ascii_alphabetic() || (c.is_ascii_digit() && self.at > begin)
        }) {
            self.at += 1;
        }
        self.text[begin..self.at].to_owned()
    }

    /// True for `[` and `[[` as words of their own.
    fn alone(&self, begin: usize) -> bool {
        let end = |at: usize| {
            self.char_at(at)
                .is_none_or(|c| matches!(c, ' ' | '\t' | '\n'))
        };
        self.peek() == Some('[')
            && ((self.at == begin && (end(begin + 1) || (self.sees("[[") && end(begin + 2))))
                || (self.at == begin + 1 && self.char_at(begin) == Some('[') && end(begin + 2)))
    }
}

impl<M: Mode> Reader<'_, M> {
    pub(super) fn word_or_nothing(&mut self) -> Result<Word, M::Fault> {
        let mut word = Word::default();
        let begin = self.at;
        while let Some(c) = self.peek() {
            match c {
                c if self.mode.ends_word(c) => break,
                '(' if M::parenthesis(self, &word)? => {}
                ';' | '&' | '|' | '<' | '>' | '(' | ')' => break,
                '\'' => {
                    self.at += 1;
                    self.literal(&mut word)?;
                }
                '"' => {
                    self.at += 1;
                    word.quoted = true;
                    word.pieces.push(Piece::Text(String::new()));
                    self.quoted(&mut word, Some('"'))?;
                }
                '\\' => {
                    self.at += 1;
                    match self.next() {
                        Some('\n') => {}
                        Some(c) => {
                            word.quoted = true;
                            word.push(c);
                        }
                        None => M::unclosed("it ends with a backslash")?,
                    }
                }
                '$' => self.dollar(&mut word, false)?,
                '`' => M::backquotes(self, &mut word)?,
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
                    self.next();
                    word.push(c);
                }
            }
        }
        word.join();
        Ok(word)
    }

    /// Text in single quotes, the first of which is read.
    pub(super) fn literal(&mut self, word: &mut Word) -> Result<(), M::Fault> {
        word.quoted = true;
        word.pieces.push(Piece::Text(String::new()));
        loop {
            match self.next() {
                None => return M::unclosed("syntax error: missing closing quote"),
                Some('\'') => return Ok(()),
                Some(c) => word.push(c),
            }
        }
    }

    /// Text in double quotes up to `end`, or a here-document up to the end of the text.
    pub(super) fn quoted(&mut self, word: &mut Word, end: Option<char>) -> Result<(), M::Fault> {
        loop {
            match self.peek() {
                None => return M::unclosed("syntax error: missing closing quote"),
                c if c == end => {
                    self.next();
                    return Ok(());
                }
                Some('\\') => {
                    self.at += 1;
                    match self.next() {
                        Some(c @ ('$' | '`' | '"' | '\\')) => word.push(c),
                        Some('\n') => {}
                        Some(c) => {
                            word.push('\\');
                            word.push(c);
                        }
                        None => return M::unclosed("syntax error: missing closing quote"),
                    }
                }
                Some('$') => self.dollar(word, true)?,
                Some('`') => M::backquotes(self, word)?,
                Some(c) => {
                    self.next();
                    word.push(c);
                }
            }
        }
    }

    /// What begins with `$`, which is not read yet.
    pub(super) fn dollar(&mut self, word: &mut Word, quoted: bool) -> Result<(), M::Fault> {
        let begin = self.at;
        self.at += 1;
        match self.peek() {
            Some('(') if self.sees("((") => M::arithmetic(self, word),
            Some('(') => {
                self.at += 1;
                M::commands(self, word)
            }
            Some('{') => {
                self.at += 1;
                M::parameter(self, word, begin)
            }
            Some('\'' | '"') if !quoted => M::dollar_quote(self, word),
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
                    self.mode.variable(&name, begin);
                    word.pieces.push(Piece::Variable(name));
                }
                Ok(())
            }
        }
    }
}
