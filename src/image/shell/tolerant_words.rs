//! What the shell fills in within words, for the tolerant reader: variables, and the commands that stand there.

use super::{DEPTH, Infallible, Piece, Plain, Reader, Tolerant, Use, Word, is_name, shown};
use crate::shell::lexer::Mode;

impl Mode for Tolerant {
    type Fault = Infallible;

    fn unclosed(_: &'static str) -> Result<(), Infallible> {
        Ok(())
    }

    fn ends_word(&self, c: char) -> bool {
        c.is_whitespace()
    }

    /// A list of values.
    fn parenthesis(reader: &mut Reader, word: &Word) -> Result<bool, Infallible> {
        let is = matches!(word.pieces.last(), Some(Piece::Text(text)) if text.ends_with('='));
        if is {
            reader.at += 1;
            let known = reader.mode.found.commands.len();
            reader.list(Some(')'));
            reader.mode.found.commands.truncate(known);
        }
        Ok(is)
    }

    /// What stands between them is taken out first and read then: a comment in it ends with it.
    fn backquotes(reader: &mut Reader, word: &mut Word) -> Result<(), Infallible> {
        reader.at += 1;
        let begin = reader.at;
        let mut escaped = false;
        let rest = reader.text.get(begin..).unwrap_or_default();
        let close = rest.find(|c| {
            let ends = c == '`' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let close = close.map_or(reader.text.len(), |at| begin + at);
        let whole = reader.text;
        // A note alone comes to nothing: what stands behind it is the command.
        if !whole[begin..close].trim_start().starts_with('#') {
            word.pieces.push(output());
        }
        reader.text = &whole[..close];
        reader.list(None);
        reader.text = whole;
        reader.at = (close + 1).min(whole.len());
        Ok(())
    }

    fn dollar_quote(reader: &mut Reader, word: &mut Word) -> Result<(), Infallible> {
        if !reader.sees("'") {
            word.push('$');
            return Ok(());
        }
        reader.next();
        while let Some(c) = reader.next() {
            match c {
                '\\' => {
                    reader.next();
                }
                '\'' => break,
                c => word.push(c),
            }
        }
        Ok(())
    }

    /// Names count with and without a dollar, but only those with one are looked at.
    fn arithmetic(reader: &mut Reader, word: &mut Word) -> Result<(), Infallible> {
        reader.at += 2;
        word.pieces.push(output());
        let mut open = 2;
        while open > 0
            && let Some(c) = reader.peek()
        {
            match c {
                '$' if reader.depth <= DEPTH => {
                    reader.depth += 1;
                    reader.dollar(&mut Word::default(), true)?;
                    reader.depth -= 1;
                    continue;
                }
                '(' => open += 1,
                ')' => open -= 1,
                _ => {}
            }
            reader.next();
        }
        Ok(())
    }

    fn commands(reader: &mut Reader, word: &mut Word) -> Result<(), Infallible> {
        word.pieces.push(output());
        reader.list(Some(')'));
        Ok(())
    }

    fn parameter(reader: &mut Reader, word: &mut Word, begin: usize) -> Result<(), Infallible> {
        if reader.depth > DEPTH {
            reader.mode.found.opaque = true;
            reader.at = reader.text.len();
        } else {
            reader.depth += 1;
            reader.inside(begin)?;
            reader.depth -= 1;
        }
        let text = reader.text[begin..reader.at].to_owned();
        word.pieces.push(Piece::Other(text));
        Ok(())
    }

    fn variable(&mut self, name: &str, at: usize) {
        self.used(name.to_owned(), at, false);
    }
}

/// Where commands stood.
fn output() -> Piece {
    Piece::Other("$()".to_owned())
}

impl Tolerant {
    fn used(&mut self, name: String, at: usize, guarded: bool) {
        self.found.uses.push(Use { name, at, guarded });
    }
}

impl Reader<'_> {
    pub(super) fn plain_word(&mut self) -> Plain {
        let before = self.mode.found.uses.len();
        let at = self.at;
        let Ok(word) = self.word_or_nothing();
        let raw = &self.text[at..self.at];
        let sets = raw.split_once('=').and_then(|(name, _)| {
            let name = name.strip_suffix('+').unwrap_or(name);
            let name = name.split('[').next().unwrap_or(name);
            let of_itself = self.mode.found.uses[before..]
                .iter()
                .any(|used| used.name == name && !used.guarded);
            is_name(name).then(|| match of_itself {
                true => String::new(),
                false => name.to_owned(),
            })
        });
        Plain {
            at,
            text: shown(&word),
            quoted: word.quoted,
            sets,
        }
    }

    /// What stands in `${NAME…}`, up to its end.
    fn inside(&mut self, begin: usize) -> Result<(), Infallible> {
        if matches!(self.peek(), Some('#' | '!')) {
            self.next();
        }
        let name = self.name();
        if !name.is_empty() {
            let operation = self.text.get(self.at..).unwrap_or_default();
            let operation = operation.strip_prefix(':').unwrap_or(operation);
            let guarded = operation.starts_with(['-', '+', '=', '?']);
            if operation.starts_with('=') {
                self.mode.found.assigned.insert(name.clone());
            }
            self.mode.used(name, begin, guarded);
        }
        let mut within = Word::default();
        while let Some(c) = self.peek() {
            match c {
                '}' => {
                    self.next();
                    break;
                }
                '$' => self.dollar(&mut within, true)?,
                '`' => Tolerant::backquotes(self, &mut within)?,
                c => {
                    self.next();
                    match c {
                        '\\' => {
                            self.next();
                        }
                        '\'' => self.literal(&mut within)?,
                        '"' => self.quoted(&mut within, Some('"'))?,
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }
}
