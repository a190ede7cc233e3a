//! Lines as git's protocol frames them (<https://git-scm.com/docs/protocol-common#_pkt_line_format>).

use std::borrow::Cow;

use crate::Error;

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Text with its line end, or bytes.
    Data(Vec<u8>),
    /// The end of a message.
    Flush,
    /// Between two parts of a message.
    Delimiter,
}

/// Takes the lines out of what comes in pieces. It keeps one line and one piece at most, and takes no more than its bound in
/// all.
pub(crate) struct Lines {
    buffer: Vec<u8>,
    at: usize,
    taken: usize,
    most: usize,
    what: &'static str,
}

impl Lines {
    /// Of `most` bytes in all. `what`: whose they are, at the beginning of the error that follows more of them.
    pub(crate) fn of(what: &'static str, most: usize) -> Self {
        Self {
            buffer: vec![],
            at: 0,
            taken: 0,
            most,
            what,
        }
    }

    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), Error> {
        self.taken = self.taken.saturating_add(piece.len());
        if self.taken > self.most {
            let (what, most) = (self.what, self.most >> 20);
            let said = format!("{what} too large: more than {most} MiB");
            return Err(Error::protocol(&said));
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(piece);
        Ok(())
    }

    /// The next line that is whole.
    pub(crate) fn next(&mut self) -> Result<Option<Line>, Error> {
        let rest = &self.buffer[self.at..];
        let Some((head, rest)) = rest.split_at_checked(4) else {
            return Ok(None);
        };
        let length = std::str::from_utf8(head)
            .ok()
            .filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|text| usize::from_str_radix(text, 16).ok())
            .ok_or_else(|| {
                Error::protocol("the server's answer is invalid: it is not git's protocol")
            })?;
        let line = match length {
            0 => Line::Flush,
            1 => Line::Delimiter,
            // The end of a whole response: after it nothing comes.
            2 => Line::Flush,
            3 => {
                return Err(Error::protocol(
                    "the server's answer is invalid: it has a line of a negative length",
                ));
            }
            _ => {
                let Some(data) = rest.get(..length - 4) else {
                    return Ok(None);
                };
                self.at += length - 4;
                Line::Data(data.to_vec())
            }
        };
        self.at += 4;
        Ok(Some(line))
    }
}

/// What is asked of a server, whatever carries it.
pub(crate) trait Talk {
    /// Takes a piece of what the server says. True once it has said all that it says until it is asked.
    fn take(&mut self, piece: &[u8]) -> Result<bool, Error>;

    /// What it is asked next; nothing where all is there already.
    fn question(&mut self) -> Option<String>;
}

/// The text of a line. Names are bytes; those that are not text are nobody's branch or tag here.
pub(crate) fn text(line: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line))
}

/// A line with this text.
pub(crate) fn data(text: &str) -> String {
    format!("{:04x}{text}\n", text.len() + 5)
}

pub(crate) const FLUSH: &str = "0000";
pub(crate) const DELIMITER: &str = "0001";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_whatever_pieces_they_come_in() {
        let text = format!("{}{DELIMITER}{}{FLUSH}", data("version 2"), data("ä"));
        for size in 1..text.len() {
            let mut lines = Lines::of("they are", 1 << 20);
            let mut found = vec![];
            for piece in text.as_bytes().chunks(size) {
                lines.push(piece).unwrap();
                while let Some(line) = lines.next().unwrap() {
                    found.push(line);
                }
            }
            let expected = [
                Line::Data(b"version 2\n".to_vec()),
                Line::Delimiter,
                Line::Data("ä\n".as_bytes().to_vec()),
                Line::Flush,
            ];
            assert_eq!(found, expected, "{size}");
        }
    }

    #[test]
    fn what_has_no_length_is_not_gits_protocol() {
        for text in ["<htm", "+123", "-001", "0003"] {
            let mut lines = Lines::of("they are", 1 << 20);
            lines.push(text.as_bytes()).unwrap();
            assert!(lines.next().is_err(), "{text}");
        }
    }

    #[test]
    fn more_than_the_bound_is_not_taken_whether_it_is_read_in_between_or_not() {
        for reads in [true, false] {
            let mut lines = Lines::of("the answer is", 1 << 20);
            let line = data(&"x".repeat(1019));
            assert_eq!(line.len(), 1024);
            for _ in 0..1024 {
                lines.push(line.as_bytes()).unwrap();
                while reads && lines.next().unwrap().is_some() {}
            }
            let error = lines.push(b"0").unwrap_err();
            assert_eq!(error.said, "the answer is too large: more than 1 MiB");
        }
    }
}
