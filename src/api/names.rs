//! Which names images may have: those that Docker, BuildKit and registries take
//! (<https://github.com/distribution/reference/blob/v0.6.0/regexp.go>).
//!
//! A first part is a host where it has a point or a port, or is `localhost`; in capitals alone it is none, though
//! Docker takes it for one: it is a slip of the pen.

/// The host, with its slash.
const HOST: &str = "(([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?((\\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)+(:[0-9]{1,5})?|:[0-9]{1,5})|localhost)/)";
/// One part of the path.
const PART: &str = "[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*";
/// 64 digits in hexadecimal alone stand for an image's ID.
const NO_ID: &str = "!self.matches('^[a-f0-9]{64}$')";

/// At most 255 characters without port, tag and digest.
pub(super) const SHORT: &str =
    "self.split('@')[0].split('/').map(p, size(p.split(':')[0]) + 1).sum() <= 256";

/// A rule of CEL. Backslashes are doubled: its texts have them so.
fn rule(rest: &str) -> String {
    // What has a point and a slash behind it is a host, also where it could be a part of a path.
    let text = format!(
        "self.matches('^{HOST}?{PART}(/{PART})*{rest}$') && (!self.matches('^[^/:@]*[.][^/:@]*/') || \
         self.matches('^{HOST}')) && {NO_ID}"
    );
    text.replace('\\', "\\\\")
}

/// A repository; what follows it is refused by a rule of its own, with its own words.
pub(super) fn repository_or_more() -> String {
    rule("([:@][^/]*)?")
}

/// A repository, with a tag or not, and with a digest or not.
pub(super) fn image() -> String {
    rule("(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}))?")
}
