//! The credential of one attempt: who may speak for it at the callback.
//!
//! `UID.JOB.MAC`: the UID of the ImageBuild, the name of the Job, and an HMAC-SHA256 over both and the namespace, in
//! base64url. The key is derived from the root authority's private key, which the controller alone holds. So nothing
//! is stored, a controller that comes back knows the credentials that another one gave out, and none is read back.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::{hkdf, hmac};

/// What the key is for; another purpose has another key.
const PURPOSE: &[u8] = b"whittle attempt credentials v1";
/// Longer than any credential: nothing longer is looked at.
const LONGEST: usize = 256;

/// Makes and knows the credentials of attempts.
#[derive(Clone)]
pub struct Credentials {
    key: hmac::Key,
}

/// For which attempt a credential speaks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// Namespace of the ImageBuild.
    pub namespace: String,
    /// UID of the ImageBuild.
    pub uid: String,
    /// Name of the Job.
    pub job: String,
}

impl Credentials {
    /// From the private key of the root authority.
    pub(super) fn new(root: &[u8]) -> Self {
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, b"whittle").extract(root);
        let key = secret
            .expand(&[PURPOSE], hmac::HMAC_SHA256)
            .expect("a key is as long as its hash")
            .into();
        Self { key }
    }

    /// The credential of this attempt: always the same one.
    pub fn token(&self, attempt: &Attempt) -> String {
        let mac = hmac::sign(&self.key, &signed(attempt));
        let Attempt { uid, job, .. } = attempt;
        format!("{uid}.{job}.{}", URL_SAFE_NO_PAD.encode(mac.as_ref()))
    }

    /// The attempt for which a runner of this namespace may speak by this credential; none where it is forged.
    pub fn verify(&self, namespace: &str, token: &str) -> Option<Attempt> {
        if token.len() > LONGEST {
            return None;
        }
        let (rest, mac) = token.rsplit_once('.')?;
        let (uid, job) = rest.split_once('.')?;
        // What UIDs and Jobs' names are made of: what is signed has just one reading.
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if ![uid, job].iter().all(|part| part.chars().all(plain)) {
            return None;
        }
        let attempt = Attempt {
            namespace: namespace.to_owned(),
            uid: uid.to_owned(),
            job: job.to_owned(),
        };
        let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
        hmac::verify(&self.key, &signed(&attempt), &mac).ok()?;
        Some(attempt)
    }
}

impl Credentials {
    /// The path where the source of an ImageBuild is posted about: always the same one, and nobody can guess it.
    pub fn webhook(&self, namespace: &str, uid: &str) -> String {
        let mac = hmac::sign(&self.key, &hook(namespace, uid));
        format!(
            "/hooks/{namespace}/{uid}/{}",
            URL_SAFE_NO_PAD.encode(mac.as_ref())
        )
    }

    /// True where `mac` stands at the end of that path.
    pub fn is_webhook(&self, namespace: &str, uid: &str, mac: &str) -> bool {
        let short = namespace.len() + uid.len() + mac.len() <= LONGEST;
        let mac = URL_SAFE_NO_PAD.decode(mac).unwrap_or_default();
        short && hmac::verify(&self.key, &hook(namespace, uid), &mac).is_ok()
    }
}

/// What is signed of a path: no part can run into the next, and none is an attempt's.
fn hook(namespace: &str, uid: &str) -> Vec<u8> {
    format!("whittle webhook\0{namespace}\0{uid}").into_bytes()
}

/// What is signed: no part can run into the next, as none can hold a zero byte.
fn signed(attempt: &Attempt) -> Vec<u8> {
    let Attempt {
        namespace,
        uid,
        job,
    } = attempt;
    format!("whittle attempt\0{namespace}\0{uid}\0{job}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::pki::Authority;

    fn attempt() -> Attempt {
        Attempt {
            namespace: "team".into(),
            uid: "11111111-1111-1111-1111-111111111111".into(),
            job: "hello-0123456789".into(),
        }
    }

    #[test]
    fn a_credential_speaks_for_its_own_attempt_and_for_no_other() {
        let credentials = Authority::make().unwrap().credentials();
        let token = credentials.token(&attempt());
        assert_eq!(credentials.verify("team", &token), Some(attempt()));
        assert_eq!(credentials.verify("other", &token), None);
        for forged in [
            token.replace("hello-0", "hello-1"),
            token.replace("1111.", "1112."),
            token[..token.len() - 1].to_owned(),
            format!("{token}A"),
            String::new(),
            "..".into(),
            "a".repeat(10_000),
        ] {
            assert_eq!(credentials.verify("team", &forged), None, "{forged}");
        }
    }

    #[test]
    fn a_credential_outlives_the_controller_and_ends_with_the_root() {
        let root = Authority::make().unwrap();
        let token = root.credentials().token(&attempt());
        let files = root.files();
        let again = Authority::load(&files["tls.crt"], &files["tls.key"]).unwrap();
        assert_eq!(again.credentials().token(&attempt()), token);
        let other = Authority::make().unwrap();
        assert_eq!(other.credentials().verify("team", &token), None);
    }

    #[test]
    fn the_parts_of_a_credential_do_not_run_into_each_other() {
        let credentials = Authority::make().unwrap().credentials();
        let of = |uid: &str, job: &str| Attempt {
            uid: uid.into(),
            job: job.into(),
            ..attempt()
        };
        // Both are signed as one text.
        let token = credentials.token(&of("a\0b", "c"));
        assert_eq!(credentials.token(&of("a", "b\0c"))[6..], token[6..]);
        assert_eq!(credentials.verify("team", &token), None);
    }
}
