//! A build request → the argument vector of buildctl. No shell ever reads it, and nothing secret
//! stands in it: secrets are files, named by path.
//!
//! Options: <https://github.com/moby/buildkit/blob/v0.33.1/docs/reference/buildctl.md>, of the
//! Dockerfile frontend: <https://github.com/moby/buildkit/blob/v0.33.1/frontend/dockerfile/docs/>.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::request::BuildRequest;
use super::trial::{FOLDER, PROGRAM, here};
use whittle_api::{CacheRegistry, GitRef, GitSource};
use whittle_image::{digest_of, normal_platform};

/// Files that the runner made ready before it starts buildctl.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Folder with the context; none where the builder itself reads it from git.
    pub context: Option<String>,
    /// What a context from git is held to, once it is known.
    pub pin: Option<Pin>,
    /// File with the value of an Authorization header for the git server.
    pub git_header: Option<String>,
    /// File with the private key for the git server.
    pub ssh_key: Option<String>,
    /// File with the source policy of [`source_policy`].
    pub policy: Option<String>,
    /// True where files from git have the time of the commit.
    pub commit_times: bool,
    /// Annotations beside those that the request asks for: of each manifest, and of an index.
    pub annotations: BTreeMap<String, String>,
}

/// What a context from git is held to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The commit.
    pub commit: String,
    /// Where `.git` is kept, also the ref by its whole name, and the object that it stands for: an annotated tag has one
    /// of its own. A clone of a commit alone would have no branch and no tag, and `git describe` nothing to tell.
    pub kept: Option<(String, String)>,
}

/// The argument of a build that keeps `.git` in a context from git.
const KEEP_GIT: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// True where the build asks for `.git` in its context, as the Dockerfile frontend reads that.
pub fn keeps_git(request: &BuildRequest) -> bool {
    let value = request.inputs.build_args.get(KEEP_GIT).map(String::as_str);
    value.is_some_and(|value| matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True"))
}

/// What a run of buildctl is to make.
#[derive(Clone, Debug)]
pub enum Goal<'a> {
    /// The image of a stage, pushed by digest.
    Image {
        /// The stage; the last one without it.
        target: Option<&'a str>,
        /// Where buildctl is to write what it knows of the pushed image.
        metadata: &'a str,
    },
    /// An image by a Dockerfile of our own that needs no context, pushed by digest.
    Derived {
        /// Folder with the Dockerfile.
        recipe: &'a str,
        /// As above.
        metadata: &'a str,
    },
    /// Files of the git source, by a Dockerfile of our own that copies them out of the context.
    Files {
        /// Folder with the Dockerfile.
        recipe: &'a str,
        /// Folder that the files are written to.
        into: &'a str,
    },
    /// What comes of running an image that was built, by a Dockerfile of our own: [`check_recipe`].
    Check {
        /// Folder with the Dockerfile.
        recipe: &'a str,
        /// Folder with the program that runs it, and what it is asked.
        program: &'a str,
        /// The platform, and the digest of its image.
        image: (&'a str, &'a str),
        /// Folder that the outcome is written to.
        into: &'a str,
    },
}

/// The name of an image in a layout, in [`check_recipe`].
const OF_LAYOUT: &str = "whittle-image";

/// A Dockerfile that runs the image of one platform, by a program of our own in a folder that is mounted, with no network but its
/// own loopback. It begins as root, and takes the rights away itself: a user of BuildKit's keeps what files give. Of an image with
/// `on_build` its files are copied: what it keeps for images that are built on it would run here, and is no part of it.
pub fn check_recipe(request: &BuildRequest, digest: &str, on_build: bool) -> String {
    let image = match &request.place.layout {
        Some(_) => OF_LAYOUT.to_owned(),
        None => format!("{}@{digest}", request.inputs.output.image),
    };
    let words = json_text(here::COMMANDS[0]);
    let from = match on_build {
        true => format!("FROM scratch AS check\nCOPY --from={image} / /\n"),
        false => format!("FROM {image} AS check\n"),
    };
    format!(
        "{from}USER 0:0\n\
         RUN --mount=type=bind,from=whittle,target={FOLDER} --network=none [\"{PROGRAM}\", {words}]\n\
         FROM scratch\nCOPY --from=check {} /\n",
        here::OUTCOME
    )
}

/// A Dockerfile that copies what matches `patterns` out of its context, with the folders it lies in.
/// Nothing need match: each pattern has a wildcard.
pub fn survey_recipe(patterns: &[String]) -> String {
    let patterns: Vec<String> = patterns.iter().map(|p| json_text(p)).collect();
    format!(
        "FROM scratch\nCOPY --parents [{}, \"/\"]\n",
        patterns.join(", ")
    )
}

/// A Dockerfile that copies the file at `path`, and what is named almost as it, out of its context: for its time. The
/// commit stands in it, as BuildKit otherwise answers with a file of the same content from another commit.
pub fn time_recipe(path: &str, commit: &str) -> String {
    let last = path.char_indices().next_back().map_or(0, |(at, _)| at);
    let pattern = json_text(&format!("{}?", escaped(&path[..last])));
    format!("FROM scratch\nCOPY --parents [{pattern}, \"/{commit}/\"]\n")
}

/// A Dockerfile that copies its whole context.
pub const EXPORT_RECIPE: &str = "FROM scratch\nCOPY . /\n";

/// A Dockerfile for the image `result` with the files of `base` beneath its own.
pub fn debug_recipe(result: &str, base: &str) -> String {
    format!(
        "FROM {base} AS base\nFROM {result} AS result\nFROM base AS merged\n\
         COPY --from=result / /\nFROM result\nCOPY --from=merged / /\n"
    )
}

/// A pattern of `COPY` that this very path matches and no other; none for paths whose last character
/// means something in a pattern.
pub fn pattern_of(path: &str) -> Option<String> {
    // The last character as a class of one makes a wildcard of it, and so need not match.
    let (at, last) = path.char_indices().next_back()?;
    let plain = !matches!(last, '*' | '?' | '[' | ']' | '\\' | '^' | '-' | '/');
    plain.then(|| format!("{}[{last}]", escaped(&path[..at])))
}

/// A text that a pattern of `COPY` matches as it is.
fn escaped(text: &str) -> String {
    let escape = |c| matches!(c, '*' | '?' | '[' | '\\').then_some('\\');
    let escaped = |c| escape(c).into_iter().chain([c]);
    text.chars().flat_map(escaped).collect()
}

fn json_text(text: &str) -> String {
    serde_json::to_string(text).expect("a text is always JSON")
}

/// The arguments of `buildctl build`, without the program's name.
pub fn build(request: &BuildRequest, files: &Files, goal: &Goal) -> Vec<String> {
    let mut args = connection(request);
    args.extend(["build".into(), "--progress=rawjson".into()]);
    frontend(request, files, goal, &mut args);
    for registry in &request.registries {
        if registry.ca_ref.is_some() {
            let ca = request.place.registry_ca(&registry.host);
            let fields = [
                format!("host={}", registry.host),
                format!("ca={}", ca.display()),
            ];
            pair(&mut args, "--registry-auth-tlscontext", csv(&fields));
        }
    }
    if let (Goal::Image { target, .. }, Some(cache)) = (goal, &request.cache) {
        let place = [
            "type=registry".into(),
            format!("ref={}", cache_reference(request, cache)),
        ];
        pair(&mut args, "--import-cache", csv(&place));
        // A stage for debugging would leave less than the image in its place.
        if *target == request.inputs.target.as_deref() {
            let compression = request.inputs.output.compression.as_str();
            let how = [
                "mode=max".into(),
                format!("compression={compression}"),
                "ignore-error=true".into(),
            ];
            pair(
                &mut args,
                "--export-cache",
                csv(&[&place[..], &how].concat()),
            );
        }
    }
    match goal {
        Goal::Image { metadata, .. } | Goal::Derived { metadata, .. } => {
            pair(&mut args, "--output", output(request, files));
            pair(&mut args, "--metadata-file", (*metadata).to_owned());
        }
        Goal::Files { into, .. } | Goal::Check { into, .. } => {
            let fields = ["type=local".into(), format!("dest={into}")];
            pair(&mut args, "--output", csv(&fields));
        }
    }
    args
}

/// The tag by which the layers of this ImageBuild, for these platforms, travel: its namespace and name as far as a tag has
/// room for them, and a digest of all that tells it from others.
pub fn cache_reference(request: &BuildRequest, cache: &CacheRegistry) -> String {
    let platforms: BTreeSet<String> = platforms(request).into_iter().collect();
    let platforms: Vec<String> = platforms.into_iter().collect();
    let BuildRequest {
        namespace, name, ..
    } = request;
    let digest = digest_of(format!("{namespace}/{name}/{}", platforms.join(",")).as_bytes());
    let head: String = format!("{namespace}.{name}").chars().take(100).collect();
    let head = head.trim_end_matches(['.', '-']);
    format!(
        "{}:{head}-{}",
        cache.image,
        &digest["sha256:".len()..][..20]
    )
}

/// The arguments that throw away what the cache does not need now.
pub fn prune(request: &BuildRequest) -> Vec<String> {
    let mut args = connection(request);
    args.push("prune".into());
    args
}

/// The arguments of the least question that the daemon answers.
pub fn ask(request: &BuildRequest) -> Vec<String> {
    let mut args = connection(request);
    args.extend(["debug".into(), "workers".into()]);
    args
}

/// The arguments that ask what the daemon runs on: JSON, as [`native`] reads it.
pub fn workers(request: &BuildRequest) -> Vec<String> {
    let mut args = connection(request);
    args.extend(["debug".into(), "workers".into()]);
    pair(&mut args, "--format", "{{json .}}".into());
    args
}

/// The daemon's own platform in its answer: the first of its first worker, others are emulated.
pub fn native(answer: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Worker {
        platforms: Vec<Platform>,
    }
    #[derive(serde::Deserialize)]
    struct Platform {
        os: String,
        architecture: String,
    }
    let workers: Vec<Worker> = serde_json::from_str(answer).ok()?;
    let first = workers.into_iter().next()?.platforms.into_iter().next()?;
    Some(format!("{}/{}", first.os, first.architecture))
}

/// The arguments that list what builds did, a line each: [`RUNS`] for one that is under way.
pub fn histories(request: &BuildRequest) -> Vec<String> {
    let mut args = connection(request);
    args.extend(["debug".into(), "histories".into()]);
    pair(&mut args, "--format", "{{.Type}}".into());
    args
}

/// What [`histories`] says of a build that is under way.
pub const RUNS: &str = "STARTED";

/// The arguments that list what the cache holds, as [`super::usage`] reads it.
pub fn disk_usage(request: &BuildRequest) -> Vec<String> {
    let mut args = connection(request);
    args.push("du".into());
    pair(&mut args, "--format", super::usage::FORMAT.into());
    args
}

/// The value of the Authorization header for a basic-auth Secret.
pub fn basic_auth(username: &str, password: &str) -> String {
    format!(
        "basic {}",
        STANDARD.encode(format!("{username}:{password}"))
    )
}

/// Git repository, ref and folder in the form that BuildKit's Dockerfile frontend takes as context:
/// `https://host/path.git#refs/heads/main:folder`. Names of refs are written in full, so that a tag
/// never stands in for a branch. The frontend takes an http(s) URL for a git repository only where it
/// ends in `.git`; where the user's does not, [`source_policy`] turns it back. The commit of a `pin` stands in
/// for the ref once it is known; where the ref is kept beside it, what it stands for is fetched by name, without
/// asking the server again.
pub fn git_context(git: &GitSource, pin: Option<&Pin>) -> String {
    let query = match pin.and_then(|pin| pin.kept.as_ref()) {
        Some((_, object)) => format!("?checksum={object}&fetch-by-commit=true"),
        None => String::new(),
    };
    // A URL is decoded once more than what has none of a URL's form.
    let decoded = if git.url.contains("://") { 3 } else { 2 };
    let fragment = fragment(git, pin, decoded);
    format!("{}{query}{fragment}", with_suffix(&git.url))
}

/// Rules that change git sources on the builder, as JSON for `--source-policy-file`. Four things have
/// no other way in:
///
/// - A repository whose URL does not end in `.git`.
/// - The host keys that an ssh server must have; without them BuildKit asks the server itself for them.
/// - A mark that makes the source this attempt's own. Builds that run at the same time share the
///   sources that are equal, and all but the first of them would not hear which commit it is. What is
///   cached is found by the commit, so it is shared all the same.
/// - The time of its files: `commit_times` gives all of them that of the commit. A build has that of
///   its own where it has the argument `SOURCE_DATE_EPOCH`, the look at its source has not.
pub fn source_policy(
    git: &GitSource,
    (pin, commit_times): (Option<&Pin>, bool),
    job: &str,
    known_hosts: Option<&str>,
) -> String {
    let mut rules = vec![];
    let given = git.url.as_str();
    if is_http(given) && with_suffix(given) != given {
        let given = given.trim_end_matches('/');
        let identifier = |url: &str| {
            let place = url.split_once("://").map_or(url, |(_, place)| place);
            format!("git://{}{}", percent_decoded(place), fragment(git, pin, 2))
        };
        rules.push(Rule {
            action: "CONVERT",
            selector: Selector {
                identifier: identifier(&with_suffix(given)),
                match_type: "EXACT",
            },
            updates: Updates {
                identifier: identifier(given),
                attrs: [("git.fullurl", given)].into(),
            },
        });
    }
    let mut attrs = BTreeMap::from([("whittle.job", job)]);
    attrs.extend(known_hosts.map(|keys| ("git.knownsshhosts", keys)));
    attrs.extend(commit_times.then_some(("git.mtime", "commit")));
    rules.push(Rule {
        action: "CONVERT",
        selector: Selector {
            identifier: "git://*".into(),
            match_type: "WILDCARD",
        },
        updates: Updates {
            identifier: "git://${1}".into(),
            attrs,
        },
    });
    serde_json::to_string(&Policy { rules }).expect("a policy has string keys only")
}

/// <https://github.com/moby/buildkit/blob/v0.33.1/sourcepolicy/pb/policy.proto>
#[derive(Serialize)]
struct Policy<'a> {
    rules: Vec<Rule<'a>>,
}

#[derive(Serialize)]
struct Rule<'a> {
    action: &'static str,
    selector: Selector,
    updates: Updates<'a>,
}

#[derive(Serialize)]
struct Selector {
    identifier: String,
    // As buildctl reads it, which takes no other spelling; and a wildcard's answer would have each $ replaced.
    match_type: &'static str,
}

#[derive(Serialize)]
struct Updates<'a> {
    identifier: String,
    attrs: BTreeMap<&'static str, &'a str>,
}

fn connection(request: &BuildRequest) -> Vec<String> {
    let mut args = vec![];
    let file = |name| request.place.tls.join(name).to_string_lossy().into_owned();
    pair(&mut args, "--addr", request.builder_address.clone());
    if request.builder_server_name.is_empty() {
        return args;
    }
    pair(
        &mut args,
        "--tlsservername",
        request.builder_server_name.clone(),
    );
    pair(&mut args, "--tlscacert", file("builder-ca.crt"));
    pair(&mut args, "--tlscert", file("tls.crt"));
    pair(&mut args, "--tlskey", file("tls.key"));
    args
}

fn frontend(request: &BuildRequest, files: &Files, goal: &Goal, args: &mut Vec<String>) {
    pair(args, "--frontend", "dockerfile.v0".into());
    // The frontend hands a Dockerfile with a `# syntax=` line to the image named there, unless it has
    // been told the line already, as that image's frontend would be. So the built-in one serves it.
    pair(args, "--opt", "cmdline=builtin".into());
    match goal {
        Goal::Image { target, .. } => {
            // A debug stage that shares steps with it is built of what this one has just made.
            if request.no_cache && *target == request.inputs.target.as_deref() {
                pair(args, "--opt", "no-cache=".into());
            }
            dockerfile(request, files, *target, args);
        }
        Goal::Derived { recipe, .. } => {
            pair(args, "--local", format!("context={recipe}"));
            pair(args, "--local", format!("dockerfile={recipe}"));
        }
        Goal::Files { recipe, .. } => {
            // With a key of its own the Dockerfile comes from here, though the context comes from git.
            pair(args, "--opt", "dockerfilekey=recipe".into());
            pair(args, "--local", format!("recipe={recipe}"));
            // Also where only a few files are taken: both are then of one checkout.
            if let Some(value) = request.inputs.build_args.get(KEEP_GIT) {
                pair(args, "--opt", format!("build-arg:{KEEP_GIT}={value}"));
            }
            git_context_option(request, files, args);
            git_credentials(request, files, args);
        }
        Goal::Check {
            recipe,
            program,
            image: (platform, digest),
            ..
        } => {
            for (name, folder) in [
                ("context", recipe),
                ("dockerfile", recipe),
                ("whittle", program),
            ] {
                pair(args, "--local", format!("{name}={folder}"));
            }
            pair(args, "--opt", "context:whittle=local:whittle".into());
            pair(args, "--opt", "no-cache=".into());
            pair(args, "--opt", format!("platform={platform}"));
            if let Some(layout) = &request.place.layout {
                let store = format!("{OF_LAYOUT}={}", layout.display());
                pair(args, "--oci-layout", store);
                let context = format!("context:{OF_LAYOUT}=oci-layout://{OF_LAYOUT}@{digest}");
                pair(args, "--opt", context);
            }
        }
    }
    if !request.inputs.platforms.is_empty()
        && !matches!(goal, Goal::Files { .. } | Goal::Check { .. })
    {
        let names = platforms(request).join(",");
        pair(args, "--opt", format!("platform={names}"));
        // An index, also of one platform: its entry is as it would stand in that of all, and so are annotations.
        if request.part {
            pair(args, "--opt", "multi-platform=true".into());
        }
    }
}

/// The platforms that are asked for, each once: two names of one would be two entries of the index.
pub fn platforms(request: &BuildRequest) -> Vec<String> {
    let mut names: Vec<String> = vec![];
    for platform in &request.inputs.platforms {
        let name = normal_platform(&platform.0);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The user's Dockerfile and all that it may use.
fn dockerfile(request: &BuildRequest, files: &Files, target: Option<&str>, args: &mut Vec<String>) {
    let mut opt = |text: String| pair(args, "--opt", text);
    opt(format!("filename={}", request.inputs.dockerfile));
    if let Some(target) = target {
        opt(format!("target={target}"));
    }
    for (name, value) in &request.inputs.build_args {
        opt(format!("build-arg:{name}={value}"));
    }
    // BuildKit gives these to steps without a word in the Dockerfile, and keeps them out of the image and of what makes a step
    // another one. Those of the build itself go before.
    for (name, value) in &request.proxy {
        let given = &request.inputs.build_args;
        if !given.keys().any(|given| given.eq_ignore_ascii_case(name)) {
            opt(format!("build-arg:{name}={value}"));
        }
    }
    for (name, value) in &request.inputs.output.labels {
        opt(format!("label:{name}={value}"));
    }
    match &files.context {
        Some(context) => {
            pair(args, "--local", format!("context={context}"));
            pair(args, "--local", format!("dockerfile={context}"));
        }
        None => git_context_option(request, files, args),
    }
    for secret in &request.inputs.secrets {
        let path = request.place.secret(&secret.id);
        pair(
            args,
            "--secret",
            file_secret(&secret.id, &path.to_string_lossy()),
        );
    }
    git_credentials(request, files, args);
}

/// A context from git.
fn git_context_option(request: &BuildRequest, files: &Files, args: &mut Vec<String>) {
    if let Some(git) = &request.inputs.source.git {
        let context = git_context(git, files.pin.as_ref());
        pair(args, "--opt", format!("context={context}"));
    }
}

/// What git sources may need: also those that the Dockerfile itself names.
fn git_credentials(request: &BuildRequest, files: &Files, args: &mut Vec<String>) {
    if let (Some(header), Some(git)) = (&files.git_header, &request.inputs.source.git) {
        // Named by the host: the credentials of one git server never go to another.
        let id = format!("GIT_AUTH_HEADER.{}", host(&git.url));
        pair(args, "--secret", file_secret(&id, header));
    }
    if let Some(key) = &files.ssh_key {
        pair(args, "--ssh", format!("default={key}"));
    }
    if let Some(policy) = &files.policy {
        pair(args, "--source-policy-file", policy.clone());
    }
}

fn output(request: &BuildRequest, files: &Files) -> String {
    let mut fields: Vec<String> = match &request.place.layout {
        Some(folder) => vec![
            "type=oci".into(),
            "tar=false".into(),
            format!("dest={}", folder.display()),
        ],
        None => vec![
            "type=image".into(),
            format!("name={}", request.inputs.output.image),
            "push=true".into(),
            "push-by-digest=true".into(),
        ],
    };
    fields.extend([
        "oci-mediatypes=true".into(),
        format!("compression={}", request.inputs.output.compression.as_str()),
        // Also layers that the cache holds in another compression.
        "force-compression=true".into(),
    ]);
    for (name, value) in &request.inputs.output.annotations {
        fields.push(format!("annotation.{name}={value}"));
    }
    // BuildKit refuses those of an index where there is none.
    let index = platforms(request).len() > 1 || request.part;
    for (name, value) in &files.annotations {
        fields.push(format!("annotation.{name}={value}"));
        fields.extend(index.then(|| format!("annotation-index.{name}={value}")));
    }
    csv(&fields)
}

fn pair(args: &mut Vec<String>, name: &str, value: String) {
    args.extend([name.to_owned(), value]);
}

fn file_secret(id: &str, path: &str) -> String {
    csv(&[format!("id={id}"), format!("src={path}")])
}

/// One line of comma-separated values, quoted where needed, as buildctl reads them.
fn csv(fields: &[String]) -> String {
    let quoted: Vec<String> = fields
        .iter()
        .map(|field| {
            if field.contains([',', '"', '\n', '\r']) || field.starts_with(char::is_whitespace) {
                format!("\"{}\"", field.replace('"', "\"\""))
            } else {
                field.clone()
            }
        })
        .collect();
    quoted.join(",")
}

fn is_http(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

/// Scheme, host and port of an http(s) URL, as `https://host:port`: what credentials are for. In small letters, and
/// without a port that goes without saying.
pub fn server(url: &str) -> String {
    let scheme = url.split_once("://").map_or("https", |(scheme, _)| scheme);
    let (scheme, host) = (scheme.to_ascii_lowercase(), host(url).to_ascii_lowercase());
    let usual = match scheme.as_str() {
        "https" => ":443",
        "http" => ":80",
        _ => "",
    };
    let host = host.strip_suffix(usual).unwrap_or(&host);
    format!("{scheme}://{host}")
}

/// Host and port of an http(s) or ssh URL, without the user.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    authority.rsplit('@').next().unwrap_or(authority)
}

fn with_suffix(url: &str) -> String {
    if !is_http(url) {
        return url.to_owned();
    }
    let url = url.trim_end_matches('/');
    match Path::new(url).extension() {
        Some(extension) if extension == "git" => url.to_owned(),
        _ => format!("{url}.git"),
    }
}

/// The whole name of the ref that is asked for; none for the remote's HEAD, and for a commit.
pub fn whole_ref(git: &GitSource) -> Option<String> {
    let reference = git.reference.as_ref()?;
    // Of a source of Flux both are known.
    if reference.commit.is_some() {
        return None;
    }
    match (&reference.branch, &reference.tag) {
        (Some(branch), _) => Some(format!("refs/heads/{branch}")),
        (_, Some(tag)) => Some(format!("refs/tags/{tag}")),
        _ => None,
    }
}

/// `#ref:folder`, with what is not needed left out. BuildKit reads it so many times as a URL: each time it decodes it.
fn fragment(git: &GitSource, pin: Option<&Pin>, decoded: usize) -> String {
    let commit = |reference: &GitRef| reference.commit.clone();
    let name = match pin {
        Some(Pin {
            kept: Some((name, _)),
            ..
        }) => name.clone(),
        Some(pin) => pin.commit.clone(),
        None => whole_ref(git)
            .or_else(|| git.reference.as_ref().and_then(commit))
            .unwrap_or_default(),
    };
    let folder = git.sub_path.as_deref().unwrap_or_default();
    let parts: Vec<&str> = folder
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    let text = match (name.is_empty(), parts.is_empty()) {
        (true, true) => String::new(),
        (false, true) => format!("#{name}"),
        (_, false) => format!("#{name}:{}", parts.join("/")),
    };
    // A percent sign would be read as the start of an escape; no other sign of a ref or path means anything there.
    text.replace('%', &format!("%{}", "25".repeat(decoded)))
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = vec![];
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
#[path = "buildctl_tests.rs"]
mod tests;
