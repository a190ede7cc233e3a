//! What a git server says of its refs: the answer to `ls-refs`
//! (<https://git-scm.com/docs/protocol-v2#_ls_refs>), and what a server advertises that knows the older protocols alone
//! (<https://git-scm.com/docs/pack-protocol#_reference_discovery>).

use crate::pkt::{DELIMITER, FLUSH, Line, Lines, Talk, data, text};
use crate::wanted::Search;
use crate::{AGENT, Error, Kind, LIMIT, Ref, Wanted};

/// The longest name of a ref that is looked at, in bytes.
const NAME: usize = 1024;

/// How far an answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is known of the server yet.
    Start,
    /// It speaks version 2, and tells what it is capable of.
    Capabilities,
    /// It did; nothing has been asked.
    Capable,
    /// It answers to `ls-refs`.
    Answer,
    /// It advertises its refs.
    Advertised,
    /// All is there.
    End,
}

/// Reads what a server says, in pieces.
pub(crate) struct Reading<'a> {
    search: Search<'a>,
    lines: Lines,
    state: State,
    sha256: bool,
    /// Of an older server: the ref before, whose commit may be in the line that follows.
    before: Option<Ref>,
    /// Of an older server: what HEAD stands for.
    head: Option<String>,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(wanted: &'a Wanted) -> Self {
        Self {
            search: Search::new(wanted),
            lines: Lines::of("the server's answer is", LIMIT),
            state: State::Start,
            sha256: false,
            before: None,
            head: None,
        }
    }

    pub(crate) fn end(self) -> Result<String, Error> {
        match self.state {
            State::End => self.search.end(),
            _ => Err(Error::unreachable("the server's answer is incomplete")),
        }
    }

    fn line(&mut self, line: Line) -> Result<(), Error> {
        let line = match (line, self.state) {
            (Line::Data(line), _) => line,
            (Line::Flush, State::Capabilities) => {
                self.state = State::Capable;
                return Ok(());
            }
            (Line::Flush, State::Answer | State::Advertised) => {
                self.see_before();
                self.state = State::End;
                return Ok(());
            }
            // Over HTTP, between the name of the service and what it says.
            (Line::Flush, State::Start) => return Ok(()),
            _ => {
                return Err(Error::protocol(
                    "the server's answer is invalid: an unexpected delimiter",
                ));
            }
        };
        let text = text(&line);
        if let Some(said) = text.strip_prefix("ERR ") {
            return Err(refused(said));
        }
        match self.state {
            State::Start
                if text.starts_with("# service=git-upload-pack") || text == "version 1" => {}
            State::Start if text == "version 2" => self.state = State::Capabilities,
            State::Start => {
                self.state = State::Advertised;
                let (first, capabilities) = text.split_once('\0').unwrap_or((&text, ""));
                self.head = capabilities
                    .split(' ')
                    .find_map(|word| word.strip_prefix("symref=HEAD:"))
                    .map(str::to_owned);
                self.advertised(first)?;
            }
            State::Capabilities => self.sha256 |= text == "object-format=sha256",
            State::Advertised => self.advertised(&text)?,
            _ => {
                let mut words = text.split(' ');
                let object = words.next().unwrap_or_default();
                let name = words.next().unwrap_or_default();
                let mut found = read(object, name)?;
                for word in words {
                    if let Some(target) = word.strip_prefix("symref-target:") {
                        found.target = Some(target.to_owned());
                    } else if let Some(peeled) = word.strip_prefix("peeled:") {
                        found.peeled = Some(peeled.to_owned());
                    }
                }
                self.see(&found);
            }
        }
        Ok(())
    }

    /// One line of an advertisement.
    fn advertised(&mut self, text: &str) -> Result<(), Error> {
        let (object, name) = text.split_once(' ').unwrap_or((text, ""));
        if object == "shallow" {
            return Ok(());
        }
        let mut found = read(object, name)?;
        // What an empty repository has in place of refs.
        if name == "capabilities^{}" {
            return Ok(());
        }
        if let Some(name) = name.strip_suffix("^{}") {
            if let Some(before) = self.before.as_mut().filter(|before| before.name == name) {
                before.peeled = Some(found.object);
            }
            return Ok(());
        }
        if name == "HEAD" {
            found.target = self.head.clone();
        }
        self.see_before();
        self.before = Some(found);
        Ok(())
    }

    fn see_before(&mut self) {
        if let Some(found) = self.before.take() {
            self.see(&found);
        }
    }

    fn see(&mut self, found: &Ref) {
        let names = [Some(&found.name), found.target.as_ref()];
        let plain = |name: &String| name.len() <= NAME && !name.contains(char::is_control);
        let whole = found.peeled.as_ref().is_none_or(|object| is_object(object));
        if names.into_iter().flatten().all(plain) && whole {
            self.search.see(found);
        }
    }
}

impl Talk for Reading<'_> {
    fn take(&mut self, piece: &[u8]) -> Result<bool, Error> {
        self.lines.push(piece)?;
        while !matches!(self.state, State::Capable | State::End)
            && let Some(line) = self.lines.next()?
        {
            self.line(line)?;
        }
        Ok(matches!(self.state, State::Capable | State::End))
    }

    fn question(&mut self) -> Option<String> {
        if self.state != State::Capable {
            return None;
        }
        self.state = State::Answer;
        let mut text = data("command=ls-refs") + &data(&format!("agent={AGENT}"));
        if self.sha256 {
            text += &data("object-format=sha256");
        }
        text += DELIMITER;
        let prefix = format!("ref-prefix {}", self.search.prefix());
        for line in ["peel", "symrefs", &prefix] {
            text += &data(line);
        }
        Some(text + FLUSH)
    }
}

fn read(object: &str, name: &str) -> Result<Ref, Error> {
    if !is_object(object) || name.is_empty() {
        return Err(Error::protocol(
            "the server's answer is invalid: a line of it names no object",
        ));
    }
    Ok(Ref {
        name: name.to_owned(),
        object: object.to_owned(),
        peeled: None,
        target: None,
    })
}

fn is_object(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// What a server says in place of an answer: most often that there is no such repository, or that it may not be read.
pub(crate) fn refused(said: &str) -> Error {
    let lower = said.to_lowercase();
    let has = |any: &[&str]| any.iter().any(|word| lower.contains(word));
    let kind = if has(&[
        "not found",
        "not exist",
        "not our ref",
        "not be found",
        "does not appear to be a git repository",
        "no such",
        "access denied or repository not exported",
    ]) {
        Kind::NotFound
    } else if has(&[
        "denied",
        "not allowed",
        "unauthorized",
        "permission",
        "forbidden",
    ]) {
        Kind::Denied
    } else {
        Kind::Protocol
    };
    Error::new(kind, "the server rejected the request")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Range;

    const A: &str = "837dd142b9ed4a2a48537e32a6406699dbe776bd";
    const B: &str = "3d1c8e505bd95cc9783f7cb75d5228216f01f964";

    /// Reads all of it, in pieces of seven bytes.
    fn read_all(wanted: &Wanted, said: &str, answer: &str) -> Result<String, Error> {
        let mut reading = Reading::new(wanted);
        for piece in said.as_bytes().chunks(7) {
            reading.take(piece)?;
        }
        if reading.question().is_some() {
            for piece in answer.as_bytes().chunks(7) {
                reading.take(piece)?;
            }
        }
        reading.end()
    }

    fn v2() -> String {
        data("# service=git-upload-pack")
            + FLUSH
            + &data("version 2")
            + &data("agent=git/2")
            + &data("ls-refs=unborn")
            + FLUSH
    }

    #[test]
    fn an_answer_to_ls_refs_is_read_with_peeled_tags_and_what_head_is() {
        let head = data(&format!("{A} HEAD symref-target:refs/heads/main")) + FLUSH;
        assert_eq!(
            read_all(&Wanted::Head, &v2(), &head).unwrap(),
            format!("main@sha1:{A}")
        );
        let tag = data(&format!("{A} refs/tags/v1 peeled:{B}")) + FLUSH;
        let v1 = Wanted::Tag("v1".into());
        assert_eq!(read_all(&v1, &v2(), &tag).unwrap(), format!("v1@sha1:{B}"));
        assert_eq!(read_all(&v1, &v2(), FLUSH).unwrap_err().kind, Kind::NoRef);
        assert_eq!(
            read_all(&v1, &v2(), "").unwrap_err().kind,
            Kind::Unreachable
        );
    }

    #[test]
    fn the_question_names_what_is_wanted_and_the_hash_that_the_server_has() {
        let wanted = Wanted::Branch("main".into());
        let mut reading = Reading::new(&wanted);
        let said = data("version 2") + &data("object-format=sha256") + FLUSH;
        assert!(reading.take(said.as_bytes()).unwrap());
        let question = reading.question().unwrap();
        for part in [
            "command=ls-refs\n",
            "object-format=sha256\n",
            "ref-prefix refs/heads/main\n",
            "peel\n",
            "symrefs\n",
        ] {
            assert!(question.contains(part), "{question}");
        }
        assert_eq!(reading.question(), None);
    }

    #[test]
    fn an_older_server_advertises_all_and_is_understood() {
        let said = data("# service=git-upload-pack")
            + FLUSH
            + &data(&format!(
                "{A} HEAD\0multi_ack symref=HEAD:refs/heads/trunk agent=git/1.8"
            ))
            + &data(&format!("{A} refs/heads/trunk"))
            + &data(&format!("{A} refs/tags/v1.0.0"))
            + &data(&format!("{B} refs/tags/v1.0.0^{{}}"))
            + FLUSH;
        let of = |wanted: Wanted| read_all(&wanted, &said, "").unwrap();
        assert_eq!(of(Wanted::Head), format!("trunk@sha1:{A}"));
        assert_eq!(
            of(Wanted::Branch("trunk".into())),
            format!("trunk@sha1:{A}")
        );
        let range = Wanted::Versions(Range::parse("1.x").unwrap());
        assert_eq!(of(range), format!("v1.0.0@sha1:{B}"));
    }

    #[test]
    fn an_empty_repository_has_no_head_in_either_protocol() {
        let zero = "0".repeat(40);
        let old = data(&format!("{zero} capabilities^{{}}\0agent=git/1")) + FLUSH;
        assert_eq!(
            read_all(&Wanted::Head, &old, "").unwrap_err().kind,
            Kind::NoRef
        );
        assert_eq!(
            read_all(&Wanted::Head, &v2(), FLUSH).unwrap_err().kind,
            Kind::NoRef
        );
    }

    #[test]
    fn an_invalid_answer_is_no_revision() {
        let main = Wanted::Branch("main".into());
        for answer in [
            "<html>".to_owned(),
            data("main refs/heads/main") + FLUSH,
            data(A) + FLUSH,
            data(&format!("{} refs/heads/main", "Z".repeat(40))) + FLUSH,
        ] {
            let error = read_all(&main, &v2(), &answer).unwrap_err();
            assert_eq!(error.kind, Kind::Protocol, "{answer}");
        }
        let long = data(&format!(
            "{A} HEAD symref-target:refs/heads/{}",
            "x".repeat(2000)
        )) + FLUSH;
        assert_eq!(
            read_all(&Wanted::Head, &v2(), &long).unwrap_err().kind,
            Kind::NoRef
        );
    }

    #[test]
    fn what_a_server_writes_instead_is_never_quoted() {
        let error = read_all(
            &Wanted::Head,
            &data("ERR access denied: token hunter22"),
            "",
        )
        .unwrap_err();
        assert_eq!(error.kind, Kind::Denied);
        assert!(!error.said.contains("hunter22"), "{error}");
    }

    #[test]
    fn more_than_the_limit_is_not_read() {
        let main = Wanted::Branch("main".into());
        let mut reading = Reading::new(&main);
        reading.take(v2().as_bytes()).unwrap();
        reading.question().unwrap();
        let line = data(&format!("{A} refs/heads/main-{}", "x".repeat(60_000))).repeat(16);
        let fault = (0..LIMIT / line.len() + 2).find_map(|_| reading.take(line.as_bytes()).err());
        assert_eq!(fault.unwrap().kind, Kind::Protocol);
    }
}
