//! Words of a shell's text: quotes, variables, and the commands that stand within them.

use super::{DEPTH, Reader, Use, Word, is_name};

impl Reader<'_> {
    pub(super) fn word(&mut self, end: Option<char>) -> Word {
        let mut word = Word {
            at: self.at,
            ..Word::default()
        };
        let before = self.script.uses.len();
        let begin = self.at;
        while let Some(c) = self.peek() {
            match c {
                '(' if word.text.ends_with('=') => {
                    // A list of values.
                    self.next();
                    let known = self.script.commands.len();
                    self.list(Some(')'));
                    self.script.commands.truncate(known);
                }
                ';' | '&' | '|' | '(' | ')' | '<' | '>' => break,
                c if c.is_whitespace() || Some(c) == end => break,
                '\'' => {
                    self.next();
                    word.quoted = true;
                    self.literal(&mut word.text);
                }
                '"' => {
                    self.next();
                    word.quoted = true;
                    let text = self.quoted(Some('"'));
                    word.text.push_str(&text);
                }
                '\\' => {
                    self.next();
                    if let Some(next) = self.next()
                        && next != '\n'
                    {
                        word.quoted = true;
                        word.text.push(next);
                    }
                }
                '$' => self.dollar(&mut word.text, false),
                '`' => self.backticks(&mut word.text),
                c => {
                    self.next();
                    word.text.push(c);
                }
            }
        }
        let raw = &self.text[begin..self.at];
        if let Some((name, _)) = raw.split_once('=')
            && let name = name.strip_suffix('+').unwrap_or(name)
            && is_name(name.split('[').next().unwrap_or(name))
        {
            let name = name.split('[').next().unwrap_or(name);
            let of_itself = self.script.uses[before..]
                .iter()
                .any(|used| used.name == name && !used.guarded);
            word.sets = Some(if of_itself {
                String::new()
            } else {
                name.to_owned()
            });
        }
        word
    }

    /// Up to the next single quote.
    fn literal(&mut self, into: &mut String) {
        while let Some(c) = self.next() {
            if c == '\'' {
                return;
            }
            into.push(c);
        }
    }

    /// Text in double quotes up to `end`, or a here-document up to the end of the text.
    pub(super) fn quoted(&mut self, end: Option<char>) -> String {
        let mut text = String::new();
        while let Some(c) = self.peek() {
            if Some(c) == end {
                self.next();
                break;
            }
            match c {
                '\\' => {
                    self.next();
                    match self.next() {
                        Some('\n') | None => {}
                        Some(next) => {
                            if !matches!(next, '$' | '`' | '"' | '\\') {
                                text.push('\\');
                            }
                            text.push(next);
                        }
                    }
                }
                '$' => self.dollar(&mut text, true),
                '`' => self.backticks(&mut text),
                c => {
                    self.next();
                    text.push(c);
                }
            }
        }
        text
    }

    /// What stands between backticks is taken out first and read then: a comment in it ends with it.
    fn backticks(&mut self, into: &mut String) {
        self.next();
        let begin = self.at;
        let mut escaped = false;
        let rest = self.text.get(begin..).unwrap_or_default();
        let close = rest.find(|c| {
            let ends = c == '`' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let close = close.map_or(self.text.len(), |at| begin + at);
        let whole = self.text;
        // A note alone comes to nothing: what stands behind it is the command.
        if !whole[begin..close].trim_start().starts_with('#') {
            into.push_str("$()");
        }
        self.text = &whole[..close];
        self.list(None);
        self.text = whole;
        self.at = (close + 1).min(whole.len());
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.peek()
            && (c.is_ascii_alphabetic() || c == '_' || (c.is_ascii_digit() && !name.is_empty()))
        {
            self.next();
            name.push(c);
        }
        name
    }

    fn dollar(&mut self, into: &mut String, in_quotes: bool) {
        let begin = self.at;
        self.next();
        match self.peek() {
            Some('(') if self.sees("((") => {
                self.at += 2;
                into.push_str("$()");
                self.arithmetic();
            }
            Some('(') => {
                self.next();
                into.push_str("$()");
                self.list(Some(')'));
            }
            Some('{') => {
                self.next();
                self.parameter(begin);
                into.push_str(&self.text[begin..self.at]);
            }
            Some('\'') if !in_quotes => {
                self.next();
                while let Some(c) = self.next() {
                    match c {
                        '\\' => {
                            self.next();
                        }
                        '\'' => break,
                        c => into.push(c),
                    }
                }
            }
            _ => {
                let name = self.name();
                if name.is_empty() {
                    into.push('$');
                } else {
                    into.push('$');
                    into.push_str(&name);
                    self.found(name, begin, false);
                }
            }
        }
    }

    fn found(&mut self, name: String, at: usize, guarded: bool) {
        self.script.uses.push(Use { name, at, guarded });
    }

    /// `$((…))`: names count with and without a dollar, but only those with one are looked at.
    fn arithmetic(&mut self) {
        let mut open = 2;
        while open > 0
            && let Some(c) = self.peek()
        {
            match c {
                '$' if self.depth <= DEPTH => {
                    self.depth += 1;
                    self.dollar(&mut String::new(), true);
                    self.depth -= 1;
                    continue;
                }
                '(' => open += 1,
                ')' => open -= 1,
                _ => {}
            }
            self.next();
        }
    }

    /// `${NAME…}`, its `${` already read.
    fn parameter(&mut self, begin: usize) {
        if self.depth > DEPTH {
            self.script.opaque = true;
            self.at = self.text.len();
            return;
        }
        self.depth += 1;
        if matches!(self.peek(), Some('#' | '!')) {
            self.next();
        }
        let name = self.name();
        if !name.is_empty() {
            let operation = self.text.get(self.at..).unwrap_or_default();
            let operation = operation.strip_prefix(':').unwrap_or(operation);
            let guarded = operation.starts_with(['-', '+', '=', '?']);
            if operation.starts_with('=') {
                self.script.assigned.insert(name.clone());
            }
            self.found(name, begin, guarded);
        }
        while let Some(c) = self.peek() {
            match c {
                '}' => {
                    self.next();
                    break;
                }
                '\\' => {
                    self.next();
                    self.next();
                }
                '$' => self.dollar(&mut String::new(), true),
                '`' => self.backticks(&mut String::new()),
                '\'' => {
                    self.next();
                    self.literal(&mut String::new());
                }
                '"' => {
                    self.next();
                    self.quoted(Some('"'));
                }
                _ => {
                    self.next();
                }
            }
        }
        self.depth -= 1;
    }
}
