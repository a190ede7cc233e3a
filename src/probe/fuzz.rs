//! What a fuzz target asks of the rooms that are private.

use std::sync::LazyLock;

use k8s_openapi::api::core::v1::{Container, EnvVar, PodSpec};

use crate::place::Place;
use crate::shell::{self, Outcome};
use crate::{derive, expand};
use whittle_image::{Contents, Executable, FolderLink, ProgramKind, Runs};

/// dash and coreutils, and busybox: programs with the files that they are.
const IMAGES: [&[(&str, &str)]; 2] = [
    &[
        ("/app", "/app"),
        ("/usr/bin/bash", "/usr/bin/bash"),
        ("/usr/bin/cat", "/usr/bin/cat"),
        ("/usr/bin/dash", "/usr/bin/dash"),
        ("/usr/bin/env", "/usr/bin/env"),
        ("/usr/bin/false", "/usr/bin/false"),
        ("/usr/bin/sh", "/usr/bin/dash"),
        ("/usr/bin/timeout", "/usr/bin/timeout"),
        ("/usr/bin/true", "/usr/bin/true"),
    ],
    &[
        ("/app", "/app"),
        ("/bin/busybox", "/bin/busybox"),
        ("/bin/cat", "/bin/busybox"),
        ("/bin/sh", "/bin/busybox"),
        ("/usr/bin/timeout", "/bin/busybox"),
        ("/usr/bin/wget", "/bin/busybox"),
    ],
];

static CONTENTS: LazyLock<[Contents; 2]> = LazyLock::new(|| {
    IMAGES.map(|programs| {
        let mut contents = Contents::default();
        contents.executables.items = programs
            .iter()
            .map(|(path, file)| Executable {
                path: (*path).into(),
                file: Some((*file).into()).filter(|file: &String| file != path),
                kind: ProgramKind::Static,
                runs: Runs::Yes,
                ..Executable::default()
            })
            .collect();
        contents.links.items.push(FolderLink {
            path: "/sbin".into(),
            folder: "/usr/sbin".into(),
        });
        contents
    })
});

/// A digit, and words between tabs. The digit's bits say which image it is, whether the words are a
/// command or a script, and whether the container has variables: then the first two are their values.
pub fn command_of_a_probe(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(rest);
    let mut words = text.split('\t').map(str::to_owned);
    let mut container = Container::default();
    if mode & 4 != 0 {
        let variable = |name: &str, value: Option<String>| EnvVar {
            name: name.into(),
            value,
            value_from: None,
        };
        container.env = Some(vec![
            variable("A", words.next()),
            variable("PATH", words.next()),
        ]);
    }
    let place = Place::new(
        &PodSpec::default(),
        &container,
        &CONTENTS[usize::from(mode & 1)],
    );
    let known = expand::values(container.env.as_deref().unwrap_or_default());
    let Some(words) = expand::all(&words.collect::<Vec<_>>(), &known) else {
        return;
    };
    if mode & 2 != 0 {
        derive::derive(&words, &container, &PodSpec::default());
        shell::judge(&place, &words);
        return;
    }
    let script = words.join(" ");
    derive::derive(&command(&script), &container, &PodSpec::default());
    let bare = shell::judge(&place, &command(&script));
    // In a subshell a script comes to the same, unless it is too long or too deep for one. One that begins
    // with a sign is taken for options.
    let reads = |shell| whittle_image::shell::syntax::parse(&script, shell).is_ok();
    use whittle_image::shell::Shell::{Busybox, Dash};
    if reads(Dash) && reads(Busybox) && !script.starts_with(['-', '+']) {
        let wrapped = shell::judge(&place, &command(&format!("( {script}\n)")));
        let bounded = matches!(&wrapped, Outcome::Unknown(why) if why.contains("too deep") || why.contains("too long"));
        assert!(bounded || wrapped == bare, "{bare:?}, and {wrapped:?}");
    }
}

fn command(script: &str) -> Vec<String> {
    ["sh", "-c", script].map(str::to_owned).to_vec()
}
