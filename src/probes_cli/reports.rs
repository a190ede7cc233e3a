//! Reports about images, and which of them is meant by an image's name in a Pod template.
//!
//! They come from files here. Whoever reads them from elsewhere (referrers in a registry, ProbeProfiles in
//! a cluster) asks [`super::manifests::Manifests::images`] for the names and hands each report to
//! [`Reports::add`].

use std::path::Path;

use k8s_openapi::api::core::v1::Probe;
use serde::Deserialize;

use crate::image::{Contents, Reference};
use crate::probe::{Handler, Images, Known};

use super::Error;

/// One image of one platform, as `whittle inspect -o json` writes it.
#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The image as it was named: `registry.example.com/team/app:1`, with or without a digest.
    pub image: String,
    /// The digest of what the name stands for, or of the platform's own manifest: `sha256:…`.
    #[serde(default)]
    pub digest: Option<String>,
    /// `linux/amd64`; that of the contents counts where it is absent.
    #[serde(default)]
    pub platform: Option<String>,
    /// What it holds.
    pub contents: Contents,
    /// The probe that the image's ImageBuild declares; its handler counts.
    #[serde(default)]
    pub health_check: Option<Probe>,
}

/// A file of reports: one, a list, or a list under `images`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Shape {
    List(Vec<Report>),
    Images { images: Vec<Report> },
    One(Box<Report>),
}

/// All reports that are at hand.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    all: Vec<(Reference, Report)>,
}

impl Reports {
    /// Adds one.
    pub fn add(&mut self, mut report: Report) {
        if let Some(platform) = &report.platform
            && !platform.is_empty()
        {
            report.contents.platform.clone_from(platform);
        }
        self.all.push((Reference::parse(&report.image), report));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// True where there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Adds those of a file's text.
    fn read(&mut self, text: &str) -> Result<(), serde_json::Error> {
        // An untagged enum does not say what is wrong with which field: the shape is looked at first.
        let value: serde_json::Value = serde_json::from_str(text)?;
        let single = value.is_object() && value.get("images").is_none();
        let shape = if single {
            Shape::One(Box::new(serde_json::from_value(value)?))
        } else {
            match value {
                serde_json::Value::Object(mut map) => Shape::Images {
                    images: serde_json::from_value(map.remove("images").unwrap_or_default())?,
                },
                list => Shape::List(serde_json::from_value(list)?),
            }
        };
        match shape {
            Shape::List(reports) | Shape::Images { images: reports } => {
                reports.into_iter().for_each(|report| self.add(report));
            }
            Shape::One(report) => self.add(*report),
        }
        Ok(())
    }

    /// Adds those of a JSON file, or of every `.json` file in a directory.
    pub fn read_path(&mut self, path: &Path) -> Result<(), Error> {
        for file in super::files::list(path, &["json"])? {
            let text = super::files::text(&file)?;
            self.read(&text).map_err(|error| {
                Error::new(
                    file.display().to_string(),
                    format!("is no report of an image: {error}; reports are what whittle inspect -o json writes"),
                )
            })?;
        }
        Ok(())
    }
}

impl Images for Reports {
    fn of(&self, image: &str) -> Known<'_> {
        let wanted = Reference::parse(image);
        let same: Vec<&(Reference, Report)> = self
            .all
            .iter()
            .filter(|(known, _)| known.repository == wanted.repository)
            .collect();
        let is = |known: &Reference, report: &Report| match &wanted.digest {
            Some(digest) => {
                known.digest.as_ref() == Some(digest) || report.digest.as_ref() == Some(digest)
            }
            // A tag may stand for another digest by now: the report is as good as the name it was made of.
            None => {
                known.digest.is_none() && known.wanted() == wanted.wanted()
                    || known.tag.is_some() && known.tag == wanted.tag
            }
        };
        let found: Vec<&Report> = same
            .iter()
            .filter(|(known, report)| is(known, report))
            .map(|(_, report)| report)
            .collect();
        let why_none = match (image.is_empty(), same.first()) {
            (true, _) => "the container names no image".to_owned(),
            (false, None) => format!("there is no report of {image}"),
            (false, Some((_, other))) => format!(
                "there is no report of {image}, but one of {}{}",
                other.image,
                match &other.digest {
                    Some(digest) if !other.image.contains('@') => format!("@{digest}"),
                    _ => String::new(),
                }
            ),
        };
        let handler = found
            .iter()
            .find_map(|report| report.health_check.as_ref().and_then(Handler::of));
        Known {
            why_none: found.is_empty().then_some(why_none),
            contents: found.iter().map(|report| &report.contents).collect(),
            health_check: handler,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reports(text: &str) -> Reports {
        let mut reports = Reports::default();
        reports.read(text).unwrap();
        reports
    }

    fn report(image: &str, digest: &str) -> String {
        let contents = serde_json::to_string(&Contents::default()).unwrap();
        format!(
            r#"{{"image":"{image}","digest":"{digest}","platform":"linux/amd64","contents":{contents},
            "healthCheck":{{"httpGet":{{"path":"/h","port":1}}}},"more":1}}"#
        )
    }

    #[test]
    fn one_report_a_list_and_images_are_read() {
        let one = report("a/b:1", "sha256:00");
        for text in [
            one.clone(),
            format!("[{one},{one}]"),
            format!("{{\"images\":[{one}]}}"),
        ] {
            let reports = reports(&text);
            let known = reports.of("a/b:1");
            assert_eq!(known.contents[0].platform, "linux/amd64");
            assert!(matches!(known.health_check, Some(Handler::HttpGet(_))));
        }
        let mut none = Reports::default();
        for text in ["{}", "1", "{\"images\":1}", "[{}]", "x"] {
            assert!(none.read(text).is_err(), "{text}");
        }
        let error = none.read("{\"image\":\"a\"}").unwrap_err();
        assert!(error.to_string().contains("contents"), "{error}");
    }

    #[test]
    fn a_report_is_found_by_digest_and_by_the_name_that_it_was_made_of() {
        let reports = reports(&format!(
            "[{},{},{}]",
            report("registry.example.com/a:1", "sha256:11"),
            report("registry.example.com/b@sha256:22", "sha256:33"),
            report("busybox", "sha256:44")
        ));
        for (image, found) in [
            ("registry.example.com/a:1", true),
            ("registry.example.com/a@sha256:11", true),
            ("registry.example.com/a:2@sha256:11", true),
            ("registry.example.com/a:1@sha256:99", false),
            ("registry.example.com/a:2", false),
            ("registry.example.com/a", false),
            ("other.example.com/a:1", false),
            ("registry.example.com/b@sha256:22", true),
            ("registry.example.com/b@sha256:33", true),
            ("registry.example.com/b:1", false),
            ("docker.io/library/busybox:latest", true),
            ("busybox:1.36", false),
            ("", false),
        ] {
            let known = reports.of(image);
            assert_eq!(!known.contents.is_empty(), found, "{image}");
            assert_eq!(known.why_none.is_none(), found, "{image}");
        }
        let why = reports.of("registry.example.com/a:2").why_none.unwrap();
        assert!(why.contains("registry.example.com/a:1@sha256:11"), "{why}");
    }
}
