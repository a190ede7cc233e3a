//! What a source of Flux has fetched: an archive that Flux keeps, and how failures of its git repository or artifact are worded.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::files::{Prepared, broken};
use super::oci::{Archived, LAYER_LIMIT, unpacked};
use crate::failure::plain;
use crate::report::scratch_full;
use crate::request::{BuildRequest, Tarball};
use whittle_api::{Failure, FailureReason, FluxSource};
use whittle_image::{Hasher, Layer};
use whittle_registry::causes;

/// How often an archive is asked for.
const TRIES: u32 = 4;
/// Between two tries, times how many there were.
const PAUSE: Duration = Duration::from_secs(2);
/// How long Flux may say nothing.
const SILENCE: Duration = Duration::from_secs(30);

/// Why an archive did not come.
enum Trouble {
    /// Asking again may help.
    Away(String),
    TooLarge,
    Other(String),
}

/// Fetches and unpacks an archive; `prepared` knows then where the context is.
pub(super) async fn fetch(
    request: &BuildRequest,
    source: &FluxSource,
    tarball: &Tarball,
    prepared: &mut Prepared,
) -> Result<(), Failure> {
    let title = title(source);
    let too_large = || {
        let bytes = request.scratch_bytes;
        let said =
            format!("the archive of {title} has more than {bytes} bytes, compressed and unpacked");
        plain(FailureReason::SourceTooLarge, scratch_full(&said))
    };
    let packed = PathBuf::from(prepared.path("layer"));
    let most = LAYER_LIMIT.min(request.scratch_bytes);
    download(tarball, most, &packed)
        .await
        .map_err(|trouble| match trouble {
            Trouble::TooLarge => too_large(),
            Trouble::Away(said) => plain(
                FailureReason::SourceUnreachable,
                format!(
                    "cannot fetch the archive of {title}: {said}: check that NetworkPolicies of Flux's namespace allow \
                        runners to reach its source-controller"
                ),
            ),
            Trouble::Other(said) => plain(
                FailureReason::SourceNotFound,
                format!("cannot fetch the archive of {title}: {said}"),
            ),
        })?;
    let said = format!("source {title} {}", tarball.digest);
    request.place.say(&said);
    let folder = PathBuf::from(prepared.path("artifact"));
    fs::create_dir_all(&folder).map_err(broken)?;
    let layer = Layer {
        media_type: String::new(),
        digest: tarball.digest.clone(),
        size: 0,
        title: None,
    };
    let archived = Archived::within(request.scratch_bytes);
    let archived = unpacked(archived, packed, layer, folder.clone()).await;
    let archived = archived.map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => too_large(),
        _ => plain(
            FailureReason::SourceNotFound,
            format!("the archive of {title} is not valid: {}", causes(&error)),
        ),
    })?;
    let context = archived.context(&folder, source.sub_path.as_deref());
    let context = context.ok_or_else(|| {
        let folder = source.sub_path.as_deref().unwrap_or_default();
        plain(
            FailureReason::SourceNotFound,
            format!("directory {folder} not found in {title}: check flux.subPath"),
        )
    })?;
    prepared.files.context = Some(context.to_string_lossy().into_owned());
    Ok(())
}

async fn download(tarball: &Tarball, most: u64, into: &Path) -> Result<(), Trouble> {
    let mut tried = 0;
    loop {
        tried += 1;
        match once(tarball, most, into).await {
            Err(Trouble::Away(_)) if tried < TRIES => tokio::time::sleep(PAUSE * tried).await,
            other => return other,
        }
    }
}

/// Whoever may write the status of the object may name any URL: nothing is sent but a GET, and nothing but what has the
/// digest goes on.
async fn once(tarball: &Tarball, most: u64, into: &Path) -> Result<(), Trouble> {
    let Tarball { url, digest } = tarball;
    let local = |error: io::Error| Trouble::Other(error.to_string());
    let away = |error: reqwest::Error| Trouble::Away(causes(&error));
    let mut hash = Hasher::of(digest)
        .ok_or_else(|| Trouble::Other(format!("unsupported digest {digest}: not sha256")))?;
    let client = reqwest::Client::builder()
        // Flux is in the cluster, by a name with a point behind it, which `NO_PROXY` does not count among the cluster's.
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(SILENCE)
        .build()
        .map_err(|error| Trouble::Other(causes(&error)))?;
    let mut response = client.get(url).send().await.map_err(away)?;
    let status = response.status();
    if !status.is_success() {
        // Flux removes archives that have been replaced: the next attempt takes the new one.
        return Err(Trouble::Away(format!("{url} answered {status}")));
    }
    let mut file = io::BufWriter::new(fs::File::create(into).map_err(local)?);
    let mut size = 0_u64;
    while let Some(chunk) = response.chunk().await.map_err(away)? {
        size += chunk.len() as u64;
        if size > most {
            return Err(Trouble::TooLarge);
        }
        hash.update(&chunk);
        file.write_all(&chunk).map_err(local)?;
    }
    file.flush().map_err(local)?;
    let actual = hash.finish();
    match actual == *digest {
        true => Ok(()),
        false => Err(Trouble::Away(format!(
            "digest mismatch: {url} has {actual}, and {digest} is in the status"
        ))),
    }
}

fn title(source: &FluxSource) -> String {
    format!("{} {}", source.kind, source.name)
}

/// A failure as it is where the source is Flux's: its fields stand in Flux's object.
pub(super) fn worded(request: &BuildRequest, failure: Failure) -> Failure {
    let (Some(flux), Some(_)) = (&request.inputs.source.flux, &request.flux) else {
        return failure;
    };
    let title = title(flux);
    let mut message = failure.message;
    for (ours, theirs) in [
        ("git.secretRef", format!("spec.secretRef of {title}")),
        ("oci.secretRef", format!("spec.secretRef of {title}")),
        ("git.url", format!("spec.url of {title}")),
        ("oci.image", format!("spec.url of {title}")),
        ("git.ref.commit", format!("spec.ref of {title}")),
        ("git.subPath", "flux.subPath".to_owned()),
        ("oci.subPath", "flux.subPath".to_owned()),
        ("ssh-privatekey", "identity".to_owned()),
    ] {
        message = message.replace(ours, &theirs);
    }
    Failure { message, ..failure }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use whittle_api::{FluxKind, FluxSource};
    use whittle_image::digest_of;

    use super::super::files::prepare;
    use super::*;
    use crate::fixtures;
    use crate::request::Fetched;

    /// A server that answers once, and its URL.
    fn serve(status: &'static str, body: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/a.tar.gz", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&body);
        });
        url
    }

    fn said(trouble: Trouble) -> String {
        match trouble {
            Trouble::Away(said) | Trouble::Other(said) => said,
            Trouble::TooLarge => "too large".into(),
        }
    }

    async fn got(status: &'static str, digest: &str, most: u64) -> Result<Vec<u8>, String> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let into = folder.path().join("layer");
        let tarball = Tarball {
            url: serve(status, b"archive".to_vec()),
            digest: digest.into(),
        };
        once(&tarball, most, &into).await.map_err(said)?;
        Ok(fs::read(into).unwrap())
    }

    #[tokio::test]
    async fn an_archive_must_have_the_digest_that_stands_in_the_status_and_keeps_its_bound() {
        let digest = digest_of(b"archive");
        assert_eq!(got("200 OK", &digest, 7).await.unwrap(), b"archive");
        assert_eq!(got("200 OK", &digest, 6).await.unwrap_err(), "too large");
        let other = got("200 OK", &digest_of(b"other"), 7).await.unwrap_err();
        assert!(other.starts_with("digest mismatch"), "{other}");
        let gone = got("404 Not Found", &digest, 7).await.unwrap_err();
        assert!(gone.ends_with("answered 404 Not Found"), "{gone}");
        let moved = got("302 Found", &digest, 7).await.unwrap_err();
        assert!(moved.contains("answered 302"), "{moved}");
        let odd = got("200 OK", "md5:aa", 7).await.unwrap_err();
        assert!(odd.starts_with("unsupported digest"), "{odd}");
    }

    /// What a build of a Bucket finds of an archive with one file, or why not.
    async fn built(sub_path: &str, most: u64) -> Result<String, Failure> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut archive = tar::Builder::new(vec![]);
        let mut header = tar::Header::new_gnu();
        header.set_size(12);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, "app/Dockerfile", &b"FROM scratch"[..])
            .unwrap();
        let archive = archive.into_inner().unwrap();
        let tarball = Tarball {
            digest: digest_of(&archive),
            url: serve("200 OK", archive),
        };
        let source = FluxSource {
            kind: FluxKind::Bucket,
            name: "app".into(),
            sub_path: Some(sub_path.into()),
        };
        let mut request = fixtures::request();
        request.scratch_bytes = most;
        let scratch = tempfile::tempdir().unwrap();
        request.place.scratch = scratch.path().to_owned();
        let mut prepared = prepare(&request).unwrap();
        fetch(&request, &source, &tarball, &mut prepared).await?;
        let context = prepared.files.context.unwrap();
        Ok(fs::read_to_string(Path::new(&context).join("Dockerfile")).unwrap())
    }

    #[tokio::test]
    async fn an_archive_is_unpacked_within_the_bounds_of_every_source() {
        assert_eq!(built("app", 1 << 20).await.unwrap(), "FROM scratch");
        let missing = built("cmd", 1 << 20).await.unwrap_err();
        assert_eq!(missing.reason, FailureReason::SourceNotFound);
        assert_eq!(
            missing.message,
            "directory cmd not found in Bucket app: check flux.subPath"
        );
        // Packed and unpacked together.
        for most in [1000, 2055] {
            let large = built("app", most).await.unwrap_err();
            assert_eq!(large.reason, FailureReason::SourceTooLarge, "{most}");
        }
    }

    #[test]
    fn a_failure_names_the_fields_of_fluxs_object() {
        let mut request = fixtures::request();
        let failure = |message: &str| plain(FailureReason::SourceDenied, message.into());
        let words = "check git.url; a private repository needs git.secretRef";
        assert_eq!(worded(&request, failure(words)).message, words);
        request.inputs.source.flux = Some(FluxSource {
            kind: FluxKind::GitRepository,
            name: "app".into(),
            sub_path: None,
        });
        request.flux = Some(Fetched {
            revision: "main@sha1:aa".into(),
            tarball: None,
        });
        assert_eq!(
            worded(&request, failure(words)).message,
            "check spec.url of GitRepository app; a private repository needs spec.secretRef of GitRepository app"
        );
    }
}
