//! `--check`: the image is run by the daemon that has built it, before its tags move.

use std::path::{Path, PathBuf};

use whittle_api::{Failure, ImageBuild, PlatformStatus};
use whittle_build::report::{Built, Report};
use whittle_build::request::{BuildRequest, Tagging};
use whittle_build::runner::{Runnable, attempt_here, platform_here, run_here};
use whittle_controller::imagebuild::alone::{self, Check};
use whittle_image::read_elf;

/// The most of this program that is read to find out what it needs.
const PROGRAM: u64 = 1 << 30;

/// What came of a build.
pub struct Checked {
    /// How it ended.
    pub report: Report,
    /// What came of `spec.healthCheck`; empty where no image was run.
    pub checks: Vec<Check>,
}

/// This program, where it can run within an image; else why it cannot.
pub fn program() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    match is_static(&own) {
        Some(true) => Ok(own),
        _ => Err(format!(
            "{} is linked dynamically, so it cannot run within the image: take `whittle` from the release's archive",
            own.display()
        )),
    }
}

/// True for a program that needs no loader of the system; none where that is unknown.
fn is_static(program: &Path) -> Option<bool> {
    let mut file = std::fs::File::open(program).ok()?;
    let size = file.metadata().ok()?.len();
    let held = usize::try_from(size.min(PROGRAM)).ok()?;
    let elf = read_elf(&mut file, size, held, &mut vec![]).ok()?.ok()?;
    Some(elf.interpreter.is_none() && elf.needed.is_empty())
}

/// Attempts the build; what it has built is run before the tags move.
pub async fn attempt(request: &BuildRequest, build: &ImageBuild, program: &Path) -> Checked {
    let first = BuildRequest {
        tagging: Tagging::Later,
        ..request.clone()
    };
    let built = match attempt_here(&first).await {
        Report::Succeeded(built) => built,
        report @ Report::Failed(_) => {
            return Checked {
                report,
                checks: vec![],
            };
        }
    };
    let image = format!("{}@{}", build.spec.output.image, built.digest);
    let (checks, failure) = checked(request, build, &built, &image, program).await;
    let report = match failure {
        Some(failure) => {
            let said = format!("failed: {}: {}", failure.reason, failure.message);
            request.place.say(&said);
            Report::Failed(built.rejected(failure))
        }
        None => tagged(request, built).await,
    };
    Checked { report, checks }
}

async fn checked(
    request: &BuildRequest,
    build: &ImageBuild,
    built: &Built,
    image: &str,
    program: &Path,
) -> (Vec<Check>, Option<Failure>) {
    let here = platform_here(request).await;
    let mut checks = vec![];
    for platform in &built.platforms {
        let check = build.spec.health_check.as_ref();
        if let Err(why) = runs(&platform.platform, here.as_deref()) {
            let said = format!("health check: {} is not run: {why}", platform.platform);
            request.place.say(&said);
            checks.extend(check.map(|check| alone::check(check, platform, None)));
            continue;
        }
        let ran = Runnable {
            platform,
            check,
            program,
        };
        let ran = match run_here(request, ran).await {
            Ok(ran) => ran,
            Err(failure) => {
                let image = Some(image.to_owned());
                return (checks, Some(Failure { image, ..failure }));
            }
        };
        let Some(check) = check else {
            if let Some(failure) = alone::starts_failure(platform, &ran, image) {
                return (checks, Some(failure));
            }
            request.place.say(&started(platform, ran.ended.is_some()));
            continue;
        };
        checks.push(alone::check(check, platform, Some(&ran)));
        if let Some(failure) = alone::checks_failure(&checks, image) {
            return (checks, Some(failure));
        }
        request
            .place
            .say(&format!("health check: {} has passed", platform.platform));
    }
    (checks, None)
}

/// What is said of an image that only had to start.
fn started(platform: &PlatformStatus, ended: bool) -> String {
    let how = match ended {
        true => "it ended with exit code 0",
        false => "it stayed up for 3 s",
    };
    format!(
        "health check: {} starts: {how}; without spec.healthCheck nothing else is asked of it",
        platform.platform
    )
}

/// Whether the daemon can run an image of this platform by this program.
fn runs(platform: &str, here: Option<&str>) -> Result<(), String> {
    let own = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let own = format!("linux/{own}");
    let here = here.unwrap_or(&own);
    let of = |platform: &str| {
        platform
            .splitn(3, '/')
            .take(2)
            .collect::<Vec<_>>()
            .join("/")
    };
    if here != own {
        return Err(format!(
            "the daemon is of {here}, and this program of {own}"
        ));
    }
    match of(platform) == here {
        true => Ok(()),
        false => Err(format!("the daemon is of {here}")),
    }
}

/// Moves the tags to what was checked.
async fn tagged(request: &BuildRequest, built: Built) -> Report {
    if request.inputs.output.tags.is_empty() {
        return Report::Succeeded(built);
    }
    let only = BuildRequest {
        tagging: Tagging::Only {
            image: built.digest.clone(),
            debug: built.debug.as_ref().map(|debug| debug.digest.clone()),
            tags: built.tags.clone(),
            full: vec![],
        },
        ..request.clone()
    };
    match attempt_here(&only).await {
        Report::Succeeded(_) => Report::Succeeded(built),
        Report::Failed(failed) => Report::Failed(built.rejected(failed.failure)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use whittle_image::fixtures::ElfFile;

    #[test]
    fn a_program_that_needs_a_loader_does_not_run_within_an_image() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("whittle");
        let of = |file: &ElfFile| {
            std::fs::write(&path, file.bytes()).unwrap();
            is_static(&path)
        };
        let loader = "/lib64/ld-linux-x86-64.so.2";
        assert_eq!(of(&ElfFile::program(loader, &["libc.so.6"])), Some(false));
        assert_eq!(of(&ElfFile::default()), Some(true));
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        assert_eq!(is_static(&path), None);
    }

    #[test]
    fn an_image_of_the_daemons_platform_is_run_whatever_its_variant() {
        let own = match std::env::consts::ARCH {
            "x86_64" => "linux/amd64",
            _ => "linux/arm64",
        };
        assert_eq!(runs(own, None), Ok(()));
        assert_eq!(runs(&format!("{own}/v3"), Some(own)), Ok(()));
        let said = runs("linux/s390x", Some(own)).unwrap_err();
        assert_eq!(said, format!("the daemon is of {own}"));
        let said = runs("linux/s390x", Some("linux/s390x")).unwrap_err();
        assert!(said.contains("and this program of"), "{said}");
    }
}
