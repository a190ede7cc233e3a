//! One index of several, each of which holds some of its platforms.
//!
//! Its bytes are those that who wrote them would have written for all platforms at once: entries are taken over as they were
//! written, whatever the space between them and however signs are escaped.

use std::ops::Range;

use crate::document::{IndexDocument, read};
use crate::platform::normal_platform;

/// The index with the entries of all of these, in the order of `platforms`; what is of none of them comes last. All else is that of
/// the first.
///
/// # Errors
/// What is wrong with one of them; or the platform that none of them holds, or several do.
pub fn joined(indexes: &[Vec<u8>], platforms: &[String]) -> Result<Vec<u8>, String> {
    let mut all: Vec<(usize, &str)> = vec![];
    let mut outside = None;
    for bytes in indexes {
        let document: IndexDocument = read(bytes)?;
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        let found = entries(text).filter(|found| found.len() == document.manifests.len());
        let found = found.ok_or("manifests: not written once, as a list")?;
        let (Some(first), Some(last)) = (found.first(), found.last()) else {
            return Err("manifests: empty".into());
        };
        outside.get_or_insert((&text[..first.start], &text[last.end..]));
        for (entry, at) in document.manifests.iter().zip(found) {
            let platform = entry.platform().map(|it| normal_platform(&it));
            let order = platform.and_then(|it| platforms.iter().position(|of| *of == it));
            all.push((order.unwrap_or(platforms.len()), &text[at]));
        }
    }
    let Some((before, after)) = outside else {
        return Err("no index".into());
    };
    for (order, platform) in platforms.iter().enumerate() {
        match all.iter().filter(|(at, _)| *at == order).count() {
            1 => {}
            0 => return Err(format!("{platform}: missing")),
            _ => return Err(format!("{platform}: more than one image")),
        }
    }
    all.sort_by_key(|(order, _)| *order);
    // What stands before the first entry stands before each of them.
    let space = &before[before.trim_end().len()..];
    let entries: Vec<&str> = all.into_iter().map(|(_, entry)| entry).collect();
    let entries = entries.join(&format!(",{space}"));
    Ok(format!("{before}{entries}{after}").into_bytes())
}

/// Where the entries of the list `manifests` stand in a document that is known to be an object.
fn entries(text: &str) -> Option<Vec<Range<usize>>> {
    let bytes = text.as_bytes();
    let mut found = None;
    let mut at = after(bytes, 0, b'{')?;
    while bytes.get(at) == Some(&b'"') {
        let name = at..value(bytes, at)?;
        at = after(bytes, space(bytes, name.end), b':')?;
        if &text[name] == "\"manifests\"" {
            if found.is_some() {
                return None;
            }
            let mut list = vec![];
            let mut inside = after(bytes, at, b'[')?;
            while bytes.get(inside).is_some_and(|byte| *byte != b']') {
                let end = value(bytes, inside)?;
                list.push(inside..end);
                inside = space(bytes, end);
                if bytes.get(inside) == Some(&b',') {
                    inside = space(bytes, inside + 1);
                }
            }
            found = Some(list);
        }
        at = space(bytes, value(bytes, at)?);
        if bytes.get(at) == Some(&b',') {
            at = space(bytes, at + 1);
        }
    }
    found
}

/// After this sign, and the space behind it.
fn after(bytes: &[u8], at: usize, sign: u8) -> Option<usize> {
    (bytes.get(at) == Some(&sign)).then(|| space(bytes, at + 1))
}

/// The end of the space that begins here.
fn space(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default().iter();
    at + rest.take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// The end of the value that begins here.
fn value(bytes: &[u8], at: usize) -> Option<usize> {
    let (mut depth, mut text, mut escaped) = (0_usize, false, false);
    for (at, byte) in bytes.iter().enumerate().skip(at) {
        if text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => text = false,
                _ => {}
            }
        } else {
            match byte {
                b'"' => text = true,
                b'{' | b'[' => depth += 1,
                // The end of what a number or a word stands in.
                b'}' | b']' | b',' if depth == 0 => return Some(at),
                b'}' | b']' => depth -= 1,
                _ => {}
            }
        }
        if depth == 0 && !text && matches!(byte, b'"' | b'}' | b']') {
            return Some(at + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry as BuildKit writes it.
    fn entry(platform: &str, digest: char) -> String {
        let mut parts = platform.split('/');
        let (os, architecture) = (parts.next().unwrap(), parts.next().unwrap());
        let variant = parts.next().map_or(String::new(), |variant| {
            format!(",\n        \"variant\": \"{variant}\"")
        });
        format!(
            "{{\n      \"mediaType\": \"application/vnd.oci.image.manifest.v1+json\",\n      \"digest\": \"sha256:{}\",\n      \
             \"size\": 481,\n      \"platform\": {{\n        \"architecture\": \"{architecture}\",\n        \"os\": \
             \"{os}\"{variant}\n      }}\n    }}",
            digest.to_string().repeat(64)
        )
    }

    fn index(entries: &[String]) -> Vec<u8> {
        format!(
            "{{\n  \"schemaVersion\": 2,\n  \"mediaType\": \"application/vnd.oci.image.index.v1+json\",\n  \"manifests\": [\n    {}\n  \
             ],\n  \"annotations\": {{\n    \"a\": \"\\u003cb\\u003e, \\\"manifests\\\": [{{\"\n  }}\n}}",
            entries.join(",\n    ")
        )
        .into_bytes()
    }

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn indexes_are_joined_into_the_bytes_of_the_one_that_has_all_platforms() {
        let [amd64, arm, arm64, i386] = [
            entry("linux/amd64", 'a'),
            entry("linux/arm/v7", 'b'),
            entry("linux/arm64", 'c'),
            entry("linux/386", 'd'),
        ];
        let one = index(&[amd64.clone(), arm.clone(), arm64.clone(), i386.clone()]);
        let order = names(&["linux/amd64", "linux/arm/v7", "linux/arm64", "linux/386"]);
        let parts = [index(&[arm64]), index(&[amd64, i386]), index(&[arm])];
        let made = joined(&parts, &order).unwrap();
        assert_eq!(
            String::from_utf8(made).unwrap(),
            String::from_utf8(one.clone()).unwrap()
        );
        assert_eq!(joined(std::slice::from_ref(&one), &order).unwrap(), one);
    }

    #[test]
    fn however_an_index_is_spaced_it_is_kept() {
        let one = |entries: &str| {
            format!("{{\"manifests\":[{entries}],\"schemaVersion\":2}}").into_bytes()
        };
        let entry = |architecture: &str| {
            format!(
                "{{\"digest\":\"sha256:{}\",\"size\":1,\"platform\":{{\"os\":\"linux\",\"architecture\":\"{architecture}\"}}}}",
                "a".repeat(64)
            )
        };
        let order = names(&["linux/amd64", "linux/arm64"]);
        let made = joined(&[one(&entry("arm64")), one(&entry("amd64"))], &order).unwrap();
        assert_eq!(made, one(&format!("{},{}", entry("amd64"), entry("arm64"))));
    }

    #[test]
    fn a_platform_that_is_missing_or_there_twice_is_told() {
        let amd64 = index(&[entry("linux/amd64", 'a')]);
        let order = names(&["linux/amd64", "linux/arm64"]);
        let said = joined(std::slice::from_ref(&amd64), &order).unwrap_err();
        assert_eq!(said, "linux/arm64: missing");
        let said = joined(&[amd64.clone(), amd64.clone()], &order[..1]).unwrap_err();
        assert_eq!(said, "linux/amd64: more than one image");
        for broken in [
            "",
            "{}",
            "[]",
            "{\"manifests\": []}",
            "{\"manifests\": null}",
        ] {
            assert!(joined(&[broken.into()], &order).is_err(), "{broken}");
        }
        assert!(joined(&[], &order).is_err());
    }
}
