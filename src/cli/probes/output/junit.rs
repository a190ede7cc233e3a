//! JUnit XML, as Jenkins and GitLab read it: a suite for each file, a case for each probe.

use std::io::Error;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use super::object;
use crate::probes::manifests::{Judged, Spot};
use whittle_probe::{Finding, Verdict};

pub(super) fn write(judged: &Judged, strict: bool) -> String {
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    // A vector takes all that is written to it.
    let written = document(&mut writer, judged, strict);
    debug_assert!(written.is_ok());
    let mut text = String::from_utf8(writer.into_inner()).unwrap_or_default();
    text.push('\n');
    text
}

/// Characters that XML 1.0 has no form for at all are left out.
fn clean(text: &str) -> String {
    text.chars()
        .filter(|c| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..))
        .collect()
}

fn document(writer: &mut Writer<Vec<u8>>, judged: &Judged, strict: bool) -> Result<(), Error> {
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let (works, cannot, unknown) = judged.counts();
    let mut files: Vec<&str> = Vec::new();
    for (spot, _) in &judged.findings {
        if !files.contains(&spot.file.as_str()) {
            files.push(&spot.file);
        }
    }
    let failures = cannot + if strict { unknown } else { 0 };
    writer
        .create_element("testsuites")
        .with_attribute(("name", "whittle probes"))
        .with_attribute((
            "tests",
            (works + cannot + unknown + judged.errors.len())
                .to_string()
                .as_str(),
        ))
        .with_attribute(("failures", failures.to_string().as_str()))
        .with_attribute(("errors", judged.errors.len().to_string().as_str()))
        .write_inner_content(|writer| {
            for file in files {
                suite(writer, judged, file, strict)?;
            }
            if !judged.errors.is_empty() {
                errors(writer, judged)?;
            }
            Ok(())
        })?;
    Ok(())
}

fn suite(
    writer: &mut Writer<Vec<u8>>,
    judged: &Judged,
    file: &str,
    strict: bool,
) -> Result<(), Error> {
    let cases: Vec<&(Spot, Finding)> = judged
        .findings
        .iter()
        .filter(|(spot, _)| spot.file == file)
        .collect();
    let count = |wanted: fn(&Verdict) -> bool| {
        cases
            .iter()
            .filter(|(_, finding)| wanted(&finding.verdict))
            .count()
    };
    let cannot = count(|verdict| matches!(verdict, Verdict::CannotWork(_)));
    let unknown = count(|verdict| matches!(verdict, Verdict::Unknown(_)));
    let (failures, skipped) = if strict {
        (cannot + unknown, 0)
    } else {
        (cannot, unknown)
    };
    writer
        .create_element("testsuite")
        .with_attribute(("name", clean(file).as_str()))
        .with_attribute(("tests", cases.len().to_string().as_str()))
        .with_attribute(("failures", failures.to_string().as_str()))
        .with_attribute(("errors", "0"))
        .with_attribute(("skipped", skipped.to_string().as_str()))
        .write_inner_content(|writer| {
            cases
                .iter()
                .try_for_each(|(spot, finding)| case(writer, spot, finding, strict))
        })?;
    Ok(())
}

fn case(
    writer: &mut Writer<Vec<u8>>,
    spot: &Spot,
    finding: &Finding,
    strict: bool,
) -> Result<(), Error> {
    let name = format!("{} {}", finding.container, finding.hook.field());
    let case = writer
        .create_element("testcase")
        .with_attribute(("classname", clean(&object(spot)).as_str()))
        .with_attribute(("name", clean(&name).as_str()))
        .with_attribute(("file", clean(&spot.file).as_str()))
        .with_attribute(("line", spot.line.to_string().as_str()));
    let why = clean(finding.verdict.why().unwrap_or_default());
    let text = clean(&format!("{}:{}: {}", spot.file, spot.line, finding.message));
    match &finding.verdict {
        Verdict::Works => case.write_empty()?,
        Verdict::Unknown(_) if !strict => case.write_inner_content(|writer| {
            writer
                .create_element("skipped")
                .with_attribute(("message", why.as_str()))
                .write_text_content(BytesText::new(&text))?;
            Ok(())
        })?,
        verdict => case.write_inner_content(|writer| {
            writer
                .create_element("failure")
                .with_attribute(("type", verdict.name()))
                .with_attribute(("message", why.as_str()))
                .write_text_content(BytesText::new(&text))?;
            Ok(())
        })?,
    };
    Ok(())
}

/// What could not be judged at all.
fn errors(writer: &mut Writer<Vec<u8>>, judged: &Judged) -> Result<(), Error> {
    let count = judged.errors.len().to_string();
    writer
        .create_element("testsuite")
        .with_attribute(("name", "errors"))
        .with_attribute(("tests", count.as_str()))
        .with_attribute(("failures", "0"))
        .with_attribute(("errors", count.as_str()))
        .with_attribute(("skipped", "0"))
        .write_inner_content(|writer| {
            for error in &judged.errors {
                writer
                    .create_element("testcase")
                    .with_attribute(("classname", "errors"))
                    .with_attribute(("name", clean(&error.at).as_str()))
                    .write_inner_content(|writer| {
                        writer
                            .create_element("error")
                            .with_attribute(("message", clean(&error.why).as_str()))
                            .write_empty()?;
                        Ok(())
                    })?;
            }
            Ok(())
        })?;
    Ok(())
}
