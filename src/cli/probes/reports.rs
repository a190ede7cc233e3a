//! Reports about images, and which of them is meant by an image's name in a Pod template.
//!
//! They come from files here. Whoever reads them from elsewhere (referrers in a registry, ImageBuilds in
//! a cluster) asks [`super::manifests::Manifests::images`] for the names and hands each report to
//! [`Reports::add`].

use std::path::Path;

use k8s_openapi::api::core::v1::Probe;
use serde::Deserialize;

use whittle_image::{Contents, Reference};
use whittle_probe::{Handler, Images, Known};

use super::Error;

/// What one image of one platform holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The image as it was named: `registry.example.com/team/app:1`, with or without a digest.
    pub image: String,
    /// Digests that it is known by: of the index that the name stands for, and of the platform's own
    /// manifest, `sha256:…` each.
    pub digests: Vec<String>,
    /// What it holds.
    pub contents: Contents,
    /// The probe that the image's ImageBuild declares.
    pub health_check: Option<Handler>,
}

/// A document of reports: that of `whittle inspect -o json`, with the platforms under `images`, or one
/// platform's alone. What stands outside holds for all of them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    image: Option<String>,
    digest: Option<String>,
    health_check: Option<Probe>,
    platform: Option<String>,
    contents: Option<Contents>,
    #[serde(default)]
    images: Vec<Document>,
}

/// All reports that are at hand.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    all: Vec<(Reference, Report)>,
}

impl Reports {
    /// Adds one.
    pub fn add(&mut self, report: Report) {
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

    /// Adds those of a file's text: one document, or a list of them.
    fn read(&mut self, text: &str) -> Result<(), serde_json::Error> {
        let value: serde_json::Value = serde_json::from_str(text)?;
        let documents: Vec<Document> = if value.is_array() {
            serde_json::from_value(value)?
        } else {
            vec![serde_json::from_value(value)?]
        };
        for document in documents {
            self.document(document, None, Vec::new(), None)?;
        }
        Ok(())
    }

    fn document(
        &mut self,
        document: Document,
        image: Option<&str>,
        mut digests: Vec<String>,
        health_check: Option<&Handler>,
    ) -> Result<(), serde_json::Error> {
        use serde::de::Error as _;
        let image = document.image.as_deref().or(image);
        digests.extend(document.digest);
        let own = document.health_check.as_ref().and_then(Handler::of);
        let health_check = own.as_ref().or(health_check);
        let single = document.images.is_empty();
        for inner in document.images {
            self.document(inner, image, digests.clone(), health_check)?;
        }
        let Some(mut contents) = document.contents else {
            return if single {
                Err(serde_json::Error::missing_field("contents"))
            } else {
                Ok(())
            };
        };
        if let Some(platform) = document.platform.filter(|platform| !platform.is_empty()) {
            contents.platform = platform;
        }
        self.add(Report {
            image: image
                .ok_or_else(|| serde_json::Error::missing_field("image"))?
                .to_owned(),
            digests,
            contents,
            health_check: health_check.cloned(),
        });
        Ok(())
    }

    /// Adds those of a JSON file, or of every `.json` file in a directory.
    pub fn read_path(&mut self, path: &Path) -> Result<(), Error> {
        for file in super::files::list(path, &["json"])? {
            let text = super::files::text(&file)?;
            self.read(&text).map_err(|error| {
                Error::new(
                    file.display().to_string(),
                    format!("is not a report of an image: {error}; whittle inspect -o json writes reports"),
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
                known.digest.as_ref() == Some(digest) || report.digests.contains(digest)
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
        // The same image under several tags, or from the registry and the cluster, is one.
        let mut contents: Vec<&Contents> = Vec::new();
        for (index, report) in found.iter().enumerate() {
            let same = |other: &&Report| {
                !report.digests.is_empty()
                    && other.digests == report.digests
                    && other.contents.platform == report.contents.platform
            };
            if !found[..index].iter().any(same) {
                contents.push(&report.contents);
            }
        }
        let why_none = match (image.is_empty(), same.first()) {
            (true, _) => "the container has no image".to_owned(),
            (false, None) => format!("report of {image} not found"),
            (false, Some((_, other))) => format!(
                "report of {image} not found, but one of {}{}",
                other.image,
                match other.digests.first() {
                    Some(digest) if !other.image.contains('@') => format!("@{digest}"),
                    _ => String::new(),
                }
            ),
        };
        let health_check = found.iter().find_map(|report| report.health_check.clone());
        Known {
            why_none: found.is_empty().then_some(why_none),
            contents,
            health_check,
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
            // As whittle inspect writes it: the name stands outside.
            format!(
                r#"{{"image":"a/b:1","digest":"sha256:99","images":[{}]}}"#,
                one.replace(r#""image":"a/b:1","#, "")
            ),
        ] {
            let reports = reports(&text);
            let known = reports.of("a/b:1");
            assert_eq!(known.contents[0].platform, "linux/amd64");
            assert!(matches!(known.health_check, Some(Handler::HttpGet(_))));
        }
        let mut none = Reports::default();
        for text in [
            "{}",
            "1",
            "{\"images\":1}",
            "[{}]",
            "x",
            "{\"image\":\"a\",\"images\":[]}",
        ] {
            assert!(none.read(text).is_err(), "{text}");
        }
        let error = none.read("{\"image\":\"a\"}").unwrap_err();
        assert!(error.to_string().contains("contents"), "{error}");
    }

    #[test]
    fn what_inspect_writes_is_read() {
        let written = crate::inspect::Report {
            image: "a/b:1".into(),
            digest: Some("sha256:00".into()),
            images: vec![crate::inspect::PlatformReport {
                digest: Some("sha256:11".into()),
                id: "sha256:22".into(),
                platform: "linux/arm64".into(),
                size: 1,
                uncompressed: false,
                contents: whittle_probe::fixtures::alpine(),
                findings: Vec::new(),
            }],
        };
        let reports = reports(&serde_json::to_string(&written).unwrap());
        for image in ["a/b:1", "a/b@sha256:00", "a/b@sha256:11"] {
            let known = reports.of(image);
            assert_eq!(known.contents[0].platform, "linux/arm64");
            assert_eq!(
                known.contents[0].executables,
                written.images[0].contents.executables
            );
        }
    }

    #[test]
    fn an_image_is_known_by_the_digests_of_its_index_and_of_its_manifests() {
        let one = report("x", "sha256:11").replace(r#""image":"x","#, "");
        let two = one
            .replace("sha256:11", "sha256:22")
            .replace("amd64", "arm64");
        let reports = reports(&format!(
            r#"{{"image":"a/b:1","digest":"sha256:00","images":[{one},{two}]}}"#
        ));
        for (image, platforms) in [
            ("a/b:1", 2),
            ("a/b@sha256:00", 2),
            ("a/b@sha256:22", 1),
            ("a/b@sha256:33", 0),
        ] {
            assert_eq!(reports.of(image).contents.len(), platforms, "{image}");
        }
    }

    #[test]
    fn an_image_that_is_reported_twice_is_one() {
        let one = report("a/b:1", "sha256:11");
        let other = report("a/b:2", "sha256:11");
        let arm = one.replace("amd64", "arm64");
        let both = reports(&format!("[{one},{other},{arm},{arm}]"));
        let platforms = |image| -> Vec<String> {
            let known = both.of(image).contents.into_iter();
            known.map(|contents| contents.platform.clone()).collect()
        };
        assert_eq!(platforms("a/b@sha256:11"), ["linux/amd64", "linux/arm64"]);
        assert_eq!(platforms("a/b:2"), ["linux/amd64"]);
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
