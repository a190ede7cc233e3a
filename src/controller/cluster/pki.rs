//! Certificates. One root authority for the installation; for each Builder an authority of its own
//! below it, whose key is thrown away once it has signed the daemon's certificate and its runners'.
//!
//! A daemon trusts only its own Builder's authority, so that a runner of another namespace cannot
//! reach its cache; the controller trusts the root, and reads the namespace out of the certificate.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

use super::Error;
use super::credentials::Credentials;
use crate::builder::state::CERTIFICATES_VERSION;
use crate::names;
use whittle_api::Certificates;
use whittle_build::seal;
use whittle_image::digest_of;

const DAY: SignedDuration = SignedDuration::from_hours(24);
const ROOT_DAYS: i32 = 3650;
const BUILDER_DAYS: i32 = 365;
const RENEW_DAYS: i32 = 240;

/// The URI in a runner's certificate: who may speak for which namespace.
pub fn runner_uri(namespace: &str) -> String {
    format!("spiffe://whittle.dev/ns/{namespace}/runner")
}

/// The namespace of a runner's URI.
pub fn runner_namespace(uri: &str) -> Option<&str> {
    uri.strip_prefix("spiffe://whittle.dev/ns/")?
        .strip_suffix("/runner")
        .filter(|namespace| !namespace.contains('/'))
}

/// The root authority of an installation.
pub struct Authority {
    certificate: String,
    key: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Certificates of one Builder: file name → PEM.
pub struct Issued {
    /// For the daemon: `tls.crt`, `tls.key`, and `ca.crt`, which signs its runners'. Both have the key that git
    /// credentials are sealed with.
    pub server: BTreeMap<&'static str, String>,
    /// For its runners: `tls.crt` (with the Builder's authority), `tls.key`, `ca.crt` (the root, for
    /// the controller), `builder-ca.crt` (for the daemon).
    pub client: BTreeMap<&'static str, String>,
    /// What may be known of them without reading the Secrets.
    pub known: Certificates,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// Where the system has no randomness.
    pub fn make() -> Result<Self, Error> {
        let now = Timestamp::now();
        let key = KeyPair::generate().map_err(pki)?;
        let root =
            CertifiedIssuer::self_signed(authority("Whittle root", now, ROOT_DAYS, None), &key)
                .map_err(pki)?;
        Self::load(&root.pem(), &key.serialize_pem())
    }

    /// One that was made before, from PEM.
    ///
    /// # Errors
    /// Where these are no certificate of an authority and its key.
    pub fn load(certificate: &str, key: &str) -> Result<Self, Error> {
        let pair = KeyPair::from_pem(key).map_err(pki)?;
        let issuer = Issuer::from_ca_cert_pem(certificate, pair).map_err(pki)?;
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            issuer,
        })
    }

    /// As files of a `kubernetes.io/tls` Secret.
    pub fn files(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("tls.crt", self.certificate.clone()),
            ("tls.key", self.key.clone()),
        ])
    }

    /// PEM of the root certificate.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Digest of the root certificate.
    pub fn fingerprint(&self) -> String {
        digest_of(self.certificate.as_bytes())
    }

    /// What knows the credentials of attempts: nothing of them is stored, and a new root ends all of them.
    pub fn credentials(&self) -> Credentials {
        Credentials::new(&self.issuer.key().serialize_der())
    }

    /// A certificate for the controller's own server: PEM of certificate and key.
    ///
    /// # Errors
    /// Where a host is neither an address nor a DNS name.
    pub fn server(&self, hosts: &[String], now: Timestamp) -> Result<(String, String), Error> {
        let key = KeyPair::generate().map_err(pki)?;
        let mut params = leaf(
            "whittle",
            now,
            BUILDER_DAYS,
            ExtendedKeyUsagePurpose::ServerAuth,
        );
        params.subject_alt_names = alternative_names(hosts)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(pki)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// New certificates for one Builder.
    ///
    /// # Errors
    /// Where a name does not fit into a certificate.
    pub fn issue(&self, namespace: &str, builder: &str, now: Timestamp) -> Result<Issued, Error> {
        let key = KeyPair::generate().map_err(pki)?;
        let name = format!("Whittle builder {namespace}/{builder}");
        let authority = CertifiedIssuer::signed_by(
            authority(&name, now, BUILDER_DAYS, Some(0)),
            &key,
            &self.issuer,
        )
        .map_err(pki)?;
        let authority_pem = authority.pem();

        let server_key = KeyPair::generate().map_err(pki)?;
        let mut server = leaf(
            "buildkitd",
            now,
            BUILDER_DAYS,
            ExtendedKeyUsagePurpose::ServerAuth,
        );
        server.subject_alt_names =
            alternative_names(&[names::builder_server_name(builder, namespace)])?;
        let server = server.signed_by(&server_key, &authority).map_err(pki)?;

        let client_key = KeyPair::generate().map_err(pki)?;
        let mut client = leaf(
            "runner",
            now,
            BUILDER_DAYS,
            ExtendedKeyUsagePurpose::ClientAuth,
        );
        client.subject_alt_names =
            vec![SanType::URI(runner_uri(namespace).try_into().map_err(pki)?)];
        let client = client.signed_by(&client_key, &authority).map_err(pki)?;

        let seal_key = seal::new_key().map_err(|error| Error::Pki(error.to_string()))?;

        let known = Certificates {
            authority: self.fingerprint(),
            not_after: Time(midnight(now, BUILDER_DAYS)),
            renew_at: Time(midnight(now, RENEW_DAYS)),
            digest: format!(
                "{CERTIFICATES_VERSION}{}",
                digest_of(format!("{}{}", server.pem(), client.pem()).as_bytes())
            ),
        };
        Ok(Issued {
            server: BTreeMap::from([
                ("tls.crt", server.pem()),
                ("tls.key", server_key.serialize_pem()),
                ("ca.crt", authority_pem.clone()),
                (seal::KEY_FILE, seal_key.clone()),
            ]),
            client: BTreeMap::from([
                ("tls.crt", format!("{}{authority_pem}", client.pem())),
                ("tls.key", client_key.serialize_pem()),
                ("ca.crt", self.certificate.clone()),
                ("builder-ca.crt", authority_pem),
                (seal::KEY_FILE, seal_key),
            ]),
            known,
        })
    }
}

fn authority(name: &str, now: Timestamp, days: i32, path: Option<u8>) -> CertificateParams {
    let mut params = base(name, now, days);
    params.is_ca = IsCa::Ca(path.map_or(
        BasicConstraints::Unconstrained,
        BasicConstraints::Constrained,
    ));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf(
    name: &str,
    now: Timestamp,
    days: i32,
    usage: ExtendedKeyUsagePurpose,
) -> CertificateParams {
    let mut params = base(name, now, days);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    params
}

fn base(name: &str, now: Timestamp, days: i32) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::OrganizationName, "Whittle");
    distinguished.push(DnType::CommonName, name);
    params.distinguished_name = distinguished;
    // A day early: clocks of nodes differ.
    params.not_before = date(midnight(now, -1));
    params.not_after = date(midnight(now, days));
    params
}

/// Midnight (UTC) `days` after the day of `now`.
fn midnight(now: Timestamp, days: i32) -> Timestamp {
    let day = (now + DAY * days).to_zoned(TimeZone::UTC).date();
    day.to_zoned(TimeZone::UTC)
        .map_or(now, |zoned| zoned.timestamp())
}

fn date(at: Timestamp) -> time::OffsetDateTime {
    let day = at.to_zoned(TimeZone::UTC).date();
    date_time_ymd(
        i32::from(day.year()),
        u8::try_from(day.month()).unwrap_or(1),
        u8::try_from(day.day()).unwrap_or(1),
    )
}

/// Names and addresses, as a client looks for them in a certificate.
fn alternative_names(hosts: &[String]) -> Result<Vec<SanType>, Error> {
    hosts
        .iter()
        .map(|host| {
            Ok(match host.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(host.as_str().try_into().map_err(pki)?),
            })
        })
        .collect()
}

fn pki(error: rcgen::Error) -> Error {
    Error::Pki(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_survives_being_written_and_read() {
        let made = Authority::make().unwrap();
        let files = made.files();
        let loaded = Authority::load(&files["tls.crt"], &files["tls.key"]).unwrap();
        assert_eq!(made.fingerprint(), loaded.fingerprint());
        loaded.issue("team", "default", Timestamp::now()).unwrap();
    }

    #[test]
    fn certificates_are_renewed_well_before_they_end() {
        let now = Timestamp::now();
        let known = Authority::make()
            .unwrap()
            .issue("team", "default", now)
            .unwrap()
            .known;
        assert!(
            known.renew_at.0 > now && known.not_after.0.duration_since(known.renew_at.0) > DAY * 90
        );
    }

    #[test]
    fn a_host_that_is_an_address_stands_in_the_certificate_as_one() {
        use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
        let hosts = ["fd00::1", "10.0.0.1", "whittle.svc"].map(str::to_owned);
        let (pem, _) = Authority::make()
            .unwrap()
            .server(&hosts, Timestamp::now())
            .unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let (_, certificate) = X509Certificate::from_der(&pem.contents).unwrap();
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        let found: Vec<String> = names
            .value
            .general_names
            .iter()
            .map(|name| match name {
                GeneralName::IPAddress(bytes) => format!("{} bytes", bytes.len()),
                GeneralName::DNSName(name) => (*name).to_owned(),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(found, ["16 bytes", "4 bytes", "whittle.svc"]);
    }

    #[test]
    fn a_runners_uri_names_one_namespace_only() {
        assert_eq!(runner_namespace(&runner_uri("team")), Some("team"));
        assert_eq!(runner_namespace("spiffe://whittle.dev/ns/a/b/runner"), None);
        assert_eq!(runner_namespace("spiffe://example.com/ns/a/runner"), None);
    }
}
