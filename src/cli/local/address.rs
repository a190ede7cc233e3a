//! Where a daemon listens that is there already.

use whittle_image::Repository;

use super::Error;

/// An address that buildctl knows.
pub fn known(address: &str) -> Result<String, Error> {
    // For others buildctl runs kubectl or ssh, which want the environment that it does not have here.
    const KNOWN: [&str; 2] = ["unix://", "tcp://"];
    match KNOWN.iter().any(|scheme| address.starts_with(scheme)) {
        true => Ok(address.to_owned()),
        false => Err(Error::new(format!(
            "--builder: invalid address {address}: write for example unix:///run/buildkit/buildkitd.sock, tcp://host:1234, \
             docker-container://NAME or kube:NAMESPACE/NAME"
        ))),
    }
}

/// True for a daemon on another machine: it is spoken to without TLS.
pub fn is_in_clear(address: &str) -> bool {
    let host = address.strip_prefix("tcp://");
    host.is_some_and(|host| {
        let host = host.replace("[::1]", "localhost");
        !Repository::parse(&format!("{host}/x")).is_loopback()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_scheme_that_buildctl_knows() {
        assert_eq!(known("tcp://h:1").unwrap(), "tcp://h:1");
        let said = known("h:1").unwrap_err().to_string();
        assert!(
            said.starts_with("--builder: invalid address h:1: write"),
            "{said}"
        );
    }

    #[test]
    fn a_daemon_on_another_machine_is_spoken_to_in_clear() {
        for (address, expected) in [
            ("tcp://h.example:1234", true),
            ("tcp://10.0.0.1:1234", true),
            ("tcp://127.0.0.1:1234", false),
            ("tcp://localhost:1234", false),
            ("tcp://[::1]:1234", false),
            ("unix:///run/x.sock", false),
        ] {
            assert_eq!(is_in_clear(address), expected, "{address}");
        }
    }
}
