//! Progress for people, as `kubectl logs` shows it: much like buildctl's own plain progress.

use super::raw::Raw;
use super::redact::Redactor;
use crate::place::{Log, Place};
use crate::rawjson::Event;

/// Says events, without secrets.
pub(super) struct Printer<'a> {
    redactor: &'a Redactor,
    place: &'a Place,
    /// Of which of several builds at the same time its lines are.
    label: Option<&'a str>,
    raw: Raw,
}

impl<'a> Printer<'a> {
    pub(super) fn new(redactor: &'a Redactor, place: &'a Place, label: Option<&'a str>) -> Self {
        Self {
            redactor,
            place,
            label,
            raw: Raw::default(),
        }
    }

    pub(super) fn event(&mut self, event: &Event) {
        // They stand in buildctl's own lines.
        if self.place.log != Log::RawJson {
            let line = self.redactor.line(&text(event));
            match self.label {
                Some(label) => self.place.say(&format!("{label} {line}")),
                None => self.place.say(&line),
            }
        }
    }

    /// A line of buildctl's.
    pub(super) fn raw(&mut self, line: &str) {
        if self.place.log == Log::RawJson
            && let Some(line) = self.raw.line(line, self.redactor)
        {
            self.place.raw(&line);
        }
    }

    /// buildctl says nothing more.
    pub(super) fn end(&mut self) {
        if let Some(line) = self.raw.end(self.redactor) {
            self.place.raw(&line);
        }
    }
}

fn text(event: &Event) -> String {
    match event {
        Event::Started { step, name } => format!("#{step} {name}"),
        Event::Output {
            step,
            seconds,
            line,
        } => format!("#{step} {seconds:.3} {line}"),
        Event::Done {
            step, cached: true, ..
        } => format!("#{step} CACHED"),
        Event::Done { step, seconds, .. } => format!("#{step} DONE {seconds:.1}s"),
        Event::Failed { step, error } => format!("#{step} ERROR: {error}"),
        Event::Warning(text) => format!("warning: {text}"),
        Event::Text(text) => text.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_read_like_plain_progress() {
        let name = "[build 2/3] RUN go build".to_owned();
        for (event, expected) in [
            (
                Event::Started { step: 4, name },
                "#4 [build 2/3] RUN go build",
            ),
            (
                Event::Output {
                    step: 4,
                    seconds: 1.23456,
                    line: "ok".into(),
                },
                "#4 1.235 ok",
            ),
            (
                Event::Done {
                    step: 4,
                    seconds: 12.34,
                    cached: false,
                },
                "#4 DONE 12.3s",
            ),
            (
                Event::Done {
                    step: 4,
                    seconds: 0.0,
                    cached: true,
                },
                "#4 CACHED",
            ),
            (Event::Text("error: x".into()), "error: x"),
        ] {
            assert_eq!(text(&event), expected);
        }
    }
}
