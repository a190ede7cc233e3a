//! What a runner does not even try: specs that were accepted before the API server's rules said so, and requests that
//! did not come through it.

use super::buildctl::{self, Files, Goal};
use super::request::BuildRequest;
use whittle_api::bounds::{ANNOTATIONS, BUILD_ARGS, LABELS};
use whittle_api::is_managed_secret;

/// Bytes of one argument that Linux takes, with the NUL at its end (`MAX_ARG_STRLEN`: 32 pages).
pub const ARGUMENT: usize = 128 * 1024;
/// Bytes of all arguments: half of what Linux takes with the usual stack of 8 MiB, a quarter of it.
pub const ARGUMENTS: usize = 1024 * 1024;

/// Why a request is not carried out, where that is so: the thing, the cause and the fix.
pub fn refusal(request: &BuildRequest) -> Option<String> {
    managed_secret(request)
        .or_else(|| odd_name(request))
        .or_else(|| {
            let goal = Goal::Image {
                target: request.inputs.target.as_deref(),
                metadata: "/tmp/whittle/image.json",
            };
            arguments(&buildctl::build(request, &Files::default(), &goal))
        })
}

/// A Secret of Whittle's own that the request names.
fn managed_secret(request: &BuildRequest) -> Option<String> {
    let source = &request.inputs.source;
    let git = source.git.as_ref().and_then(|git| git.secret_ref.as_ref());
    let oci = source.oci.as_ref().and_then(|oci| oci.secret_ref.as_ref());
    let push = request.inputs.output.secret_ref.as_ref();
    let cache = request.cache.as_ref().and_then(|it| it.secret_ref.as_ref());
    let references = git.into_iter().chain(oci).chain(push).chain(cache);
    let named = references
        .map(|secret| &secret.name)
        .chain(
            request
                .inputs
                .secrets
                .iter()
                .map(|secret| &secret.secret_ref.name),
        )
        .find(|name| is_managed_secret(name))?;
    Some(format!(
        "Secret {named} is not allowed in builds: whittle-ca and names that start with \
            whittle-builder- or whittle-attempt- are reserved for Whittle's own keys: name a \
            Secret of your own"
    ))
}

/// Names that would reach the image as others: buildctl writes those of annotations in lower case, and the first `=`
/// ends a name.
fn odd_name(request: &BuildRequest) -> Option<String> {
    let annotation = request.inputs.output.annotations.keys().find(|key| {
        **key != key.to_lowercase()
            || key.is_empty()
            || !key.chars().all(|c| is_plain(c) && c != ',')
    });
    if let Some(key) = annotation {
        return Some(format!(
            "output.annotations: invalid name {key:?}: use lowercase, without spaces, =, commas \
                and quotes"
        ));
    }
    let label = request.inputs.output.labels.keys();
    let key = label
        .into_iter()
        .find(|key| key.is_empty() || !key.chars().all(is_plain))?;
    Some(format!(
        "output.labels: invalid name {key:?}: write it without spaces, = and quotes"
    ))
}

fn is_plain(c: char) -> bool {
    c.is_ascii_graphic() && !matches!(c, '=' | '"')
}

/// Why these arguments cannot be given to a program.
fn arguments(args: &[String]) -> Option<String> {
    if let Some(arg) = args.iter().find(|arg| arg.contains('\0')) {
        return Some(format!(
            "{}: a value contains a NUL character, which is not allowed: remove it",
            field(arg)
        ));
    }
    let bound = format!(
        "at most {BUILD_ARGS} characters for buildArgs, {LABELS} for output.labels and {ANNOTATIONS} for \
         output.annotations"
    );
    if let Some(long) = args.iter().find(|arg| arg.len() >= ARGUMENT) {
        return Some(format!(
            "{}: too large: {} bytes, and at most {} are possible in one argument of BuildKit's \
                client: shorten it, to {bound}",
            field(long),
            long.len(),
            ARGUMENT - 1
        ));
    }
    let all: usize = args.iter().map(|arg| arg.len() + 1).sum();
    (all >= ARGUMENTS).then(|| {
        format!(
            "buildArgs, output.labels and output.annotations: too large: {all} bytes of \
                arguments for BuildKit's client, and at most {ARGUMENTS} are possible: shorten \
                them, to {bound}"
        )
    })
}

/// The field of the spec that an argument comes from.
fn field(arg: &str) -> String {
    let name = |text: &str| text.split('=').next().unwrap_or(text).to_owned();
    if let Some(text) = arg.strip_prefix("build-arg:") {
        format!("buildArgs {}", name(text))
    } else if let Some(text) = arg.strip_prefix("label:") {
        format!("output.labels {}", name(text))
    } else if arg.starts_with("type=image") {
        "output.annotations".into()
    } else {
        name(arg)
    }
}
