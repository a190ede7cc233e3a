//! CA bundles: PEM files with certificates (RFC 7468).

use x509_parser::pem::Pem;

/// Certificates of one file.
const MAX_CERTIFICATES: usize = 4096;

/// What is known of a file with certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificates {
    /// For each certificate that could be read: when it ends, in seconds since 1970.
    pub not_after: Vec<i64>,
    /// Blocks that should be certificates and cannot be read.
    pub unreadable: u32,
}

impl Certificates {
    /// Why they cannot be trusted as they are: there is none, or one that cannot be read; none where they can.
    pub fn fault(&self) -> Option<String> {
        let why = match (self.not_after.len(), self.unreadable) {
            (0, 0) => "no certificate in it".to_owned(),
            (_, 0) => return None,
            (_, unreadable) => format!("{unreadable} of its certificates cannot be read"),
        };
        Some(format!("{why}; write certificates as PEM"))
    }

    /// Reads a PEM file; blocks of other kinds and text between them are passed over.
    pub fn read(bytes: &[u8]) -> Self {
        let mut found = Self::default();
        for block in Pem::iter_from_buffer(bytes).take(MAX_CERTIFICATES) {
            match block {
                Ok(pem) if pem.label != "CERTIFICATE" => {}
                Ok(pem) => match pem.parse_x509() {
                    Ok(certificate) => found
                        .not_after
                        .push(certificate.validity().not_after.timestamp()),
                    Err(_) => found.unreadable += 1,
                },
                Err(_) => found.unreadable += 1,
            }
        }
        found
    }

    /// How many ended before `now`, in seconds since 1970.
    pub fn expired(&self, now: i64) -> usize {
        self.not_after.iter().filter(|end| **end < now).count()
    }

    /// Bytes of memory, about.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.not_after.len() * 8
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A certificate that ends at 2030-01-01.
    pub(crate) fn pem() -> String {
        let mut parameters = rcgen::CertificateParams::new(vec!["ca.test".into()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn each_certificate_of_a_bundle_is_read_and_dated() {
        let bundle = format!("# comment\n{}\n{}", pem(), pem());
        let found = Certificates::read(bundle.as_bytes());
        assert_eq!(found.not_after, [1_893_456_000; 2]);
        assert_eq!(found.expired(1_893_456_000), 0);
        assert_eq!(found.expired(1_893_456_001), 2);
        assert_eq!(found.unreadable, 0);
    }

    #[test]
    fn what_is_no_certificate_is_counted_as_unreadable() {
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let found = Certificates::read(format!("{broken}{}", pem()).as_bytes());
        assert_eq!((found.not_after.len(), found.unreadable), (1, 1));
        assert_eq!(Certificates::read(b"").not_after.len(), 0);
        let cut = &pem()[..200];
        assert_eq!(Certificates::read(cut.as_bytes()).unreadable, 1);
    }
}
