//! Pure: the texts of manifests → verdicts with their places, and texts with the fixes in them.

use std::collections::BTreeSet;

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation};
use k8s_openapi::api::core::v1::PodSpec;

use super::Error;
use whittle_probe::manifest::edit::{Change, edit};
use whittle_probe::manifest::yaml::{self, Place, Text};
use whittle_probe::{
    Finding, Images, PassedOver, Template, Verdict, Warning, judge, passed_over, templates_of,
};

/// One file, read.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The file's name as it was given; `-` for standard input.
    pub name: String,
    /// Its text.
    pub text: String,
    read: Text,
}

/// All files.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    /// In the order in which they were given.
    pub all: Vec<Manifest>,
}

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The file.
    pub file: String,
    /// Which document of it, from 0.
    pub document: usize,
    /// First line, from 1.
    pub line: usize,
    /// First column, from 1.
    pub column: usize,
    /// Last line.
    pub end_line: usize,
    /// The object's kind.
    pub kind: String,
    /// The object's namespace.
    pub namespace: Option<String>,
    /// The object's name.
    pub name: String,
    /// Its place in the object: a JSON pointer.
    pub pointer: String,
}

/// What was found, and where.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// Probes and hooks.
    pub findings: Vec<(Spot, Finding)>,
    /// What is odd about containers.
    pub warnings: Vec<(Spot, Warning)>,
    /// Containers with probes in places that are not looked at.
    pub passed_over: Vec<(Spot, PassedOver)>,
    /// What could not be judged at all.
    pub errors: Vec<Error>,
}

impl Judged {
    /// How many works, cannot work, and are not known.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |name: &str| {
            self.findings
                .iter()
                .filter(|(_, finding)| finding.verdict.name() == name)
                .count()
        };
        (count("Works"), count("CannotWork"), count("Unknown"))
    }
}

/// A file with its fixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// The file's name.
    pub name: String,
    /// Its text; the old one where nothing is to be mended.
    pub text: String,
    /// How many probes were mended.
    pub mended: usize,
}

impl Manifest {
    /// Reads a file's text; fails with the line of what is no YAML.
    pub fn read(name: &str, text: String) -> Result<Self, Error> {
        // A byte order mark is no part of the first document.
        match yaml::read(text.strip_prefix('\u{feff}').unwrap_or(&text)) {
            Ok(read) => Ok(Self {
                name: name.to_owned(),
                text,
                read,
            }),
            Err(error) => {
                let hint = if text.contains("{{") {
                    "; render Helm templates first: helm template … | whittle probes -f -"
                } else {
                    ""
                };
                Err(Error::new(
                    format!("{name}:{}:{}", error.place.line, error.place.column),
                    format!("is invalid YAML: {}{hint}", error.why),
                ))
            }
        }
    }

    fn templates(&self) -> impl Iterator<Item = (usize, Template)> {
        self.read
            .documents
            .iter()
            .enumerate()
            .flat_map(|(index, document)| {
                templates_of(&document.root.value())
                    .into_iter()
                    .map(move |template| (index, template))
            })
    }

    fn spot(&self, document: usize, template: &Template, pointer: &str) -> Spot {
        let pointer = format!("{}{pointer}", template.pointer);
        let (from, to) = self
            .read
            .documents
            .get(document)
            .and_then(|document| document.root.place(&pointer))
            .unwrap_or((Place { line: 1, column: 1 }, Place { line: 1, column: 1 }));
        Spot {
            file: self.name.clone(),
            document,
            line: from.line.max(1),
            column: from.column.max(1),
            // An alias ends where its anchor does.
            end_line: to.line.max(from.line).max(1),
            kind: template.kind.clone(),
            namespace: template.namespace.clone(),
            name: template.name.clone(),
            pointer,
        }
    }

    fn judge(&self, images: &dyn Images, into: &mut Judged) {
        for (document, template) in self.templates() {
            let spec = match &template.spec {
                Ok(spec) => spec,
                Err(malformed) => {
                    let spot = self.spot(document, &template, &malformed.pointer);
                    into.errors.push(Error::new(
                        format!("{}:{}", spot.file, spot.line),
                        format!(
                            "{} {} has an invalid Pod template: {}: {}",
                            template.kind,
                            template.name,
                            field(&spot.pointer),
                            malformed.why
                        ),
                    ));
                    continue;
                }
            };
            let judgement = judge(spec, images);
            for finding in judgement.findings {
                let spot = self.spot(document, &template, &finding.pointer);
                into.findings.push((spot, finding));
            }
            for warning in judgement.warnings {
                let spot = self.spot(document, &template, &warning.pointer);
                into.warnings.push((spot, warning));
            }
        }
    }

    fn passed_over(&self, into: &mut Judged) {
        for (index, document) in self.read.documents.iter().enumerate() {
            for object in passed_over(&document.root.value()) {
                let place = Template {
                    pointer: String::new(),
                    kind: object.kind.clone(),
                    namespace: object.namespace.clone(),
                    name: object.name.clone(),
                    spec: Ok(PodSpec::default()),
                };
                let spot = self.spot(index, &place, &object.pointer);
                into.passed_over.push((spot, object));
            }
        }
    }

    /// The text with each probe mended that cannot work and has a fix; fails with the reason where that
    /// cannot be done without a risk.
    fn fix(&self, images: &dyn Images) -> Result<Fixed, Error> {
        let mut changes = Vec::new();
        for (document, template) in self.templates() {
            let Ok(spec) = &template.spec else {
                continue;
            };
            for finding in judge(spec, images).findings {
                let patch = finding.fix.and_then(|fix| fix.patch);
                if let (Verdict::CannotWork(_), Some(patch)) = (&finding.verdict, patch) {
                    changes.push(Change {
                        document,
                        patch: below(&template.pointer, &patch),
                    });
                }
            }
        }
        let (mark, text) = match self.text.strip_prefix('\u{feff}') {
            Some(text) => ("\u{feff}", text),
            None => ("", self.text.as_str()),
        };
        let edited = edit(text, &changes)
            .map_err(|why| Error::new(self.name.clone(), format!("is left unchanged: {why}")))?;
        Ok(Fixed {
            name: self.name.clone(),
            text: format!("{mark}{edited}"),
            mended: changes.len(),
        })
    }
}

impl Manifests {
    /// Names of all images in their Pod templates.
    pub fn images(&self) -> BTreeSet<String> {
        self.all
            .iter()
            .flat_map(Manifest::templates)
            .filter_map(|(_, template)| template.spec.ok())
            .flat_map(|spec| {
                let init = spec.init_containers.into_iter().flatten();
                init.chain(spec.containers).collect::<Vec<_>>()
            })
            .filter_map(|container| container.image)
            .collect()
    }

    /// Judges all of them.
    pub fn judge(&self, images: &dyn Images) -> Judged {
        let mut judged = Judged::default();
        for manifest in &self.all {
            manifest.judge(images, &mut judged);
            manifest.passed_over(&mut judged);
        }
        judged
    }

    /// Mends what can be mended. A file that cannot be changed without a risk stays as it is, and says why.
    pub fn fix(&self, images: &dyn Images) -> (Vec<Fixed>, Vec<Error>) {
        let mut errors = Vec::new();
        let fixed = self
            .all
            .iter()
            .map(|manifest| {
                manifest.fix(images).unwrap_or_else(|error| {
                    errors.push(error);
                    Fixed {
                        name: manifest.name.clone(),
                        text: manifest.text.clone(),
                        mended: 0,
                    }
                })
            })
            .collect();
        (fixed, errors)
    }
}

/// A JSON pointer as people write fields: `spec.containers[0].image`.
fn field(pointer: &str) -> String {
    let mut text = String::new();
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        if part.bytes().all(|b| b.is_ascii_digit()) {
            text.push_str(&format!("[{part}]"));
        } else {
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(&part);
        }
    }
    text
}

/// A patch of something as a patch of what it stands in.
pub(super) fn below(pointer: &str, patch: &Patch) -> Patch {
    let join = |path: &PointerBuf| {
        PointerBuf::parse(format!("{pointer}{path}")).unwrap_or_else(|_| path.clone())
    };
    Patch(
        patch
            .0
            .iter()
            .map(|operation| match operation {
                PatchOperation::Remove(remove) => PatchOperation::Remove(RemoveOperation {
                    path: join(&remove.path),
                }),
                PatchOperation::Add(add) => PatchOperation::Add(AddOperation {
                    path: join(&add.path),
                    value: add.value.clone(),
                }),
                // Fixes remove and add.
                other => other.clone(),
            })
            .collect(),
    )
}
