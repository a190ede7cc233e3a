//! Platforms by one name each: some have several
//! (<https://github.com/containerd/platforms/blob/v1.0.0-rc.5/database.go>).

/// `os/architecture[/variant]` as BuildKit and containerd write it: `linux/aarch64` and `linux/arm64/v8` are
/// `linux/arm64`.
pub fn normal_platform(platform: &str) -> String {
    let lower = platform.to_ascii_lowercase();
    let mut parts = lower.splitn(3, '/');
    let os = match parts.next().unwrap_or_default() {
        "macos" => "darwin",
        os => os,
    };
    let Some(architecture) = parts.next() else {
        return lower.clone();
    };
    let variant = parts.next().unwrap_or_default();
    let (architecture, variant) = match (architecture, variant) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
        ("aarch64", variant) => ("arm64", variant),
        ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
        ("armel", _) | ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "8") => ("arm", "v8"),
        other => other,
    };
    match variant {
        "" => format!("{os}/{architecture}"),
        variant => format!("{os}/{architecture}/{variant}"),
    }
}

/// True where two platforms are the same; a variant that one of them does not state counts as the same.
pub fn same_platform(one: &str, other: &str) -> bool {
    if normal_platform(one) == normal_platform(other) {
        return true;
    }
    // `linux/arm` alone leaves open which: its normal form would not.
    let states = |platform: &str| {
        platform
            .split('/')
            .nth(2)
            .is_some_and(|text| !text.is_empty())
    };
    let without = |platform: &str| {
        let normal = normal_platform(platform);
        let mut parts = normal.split('/');
        (
            parts.next().map(str::to_owned),
            parts.next().map(str::to_owned),
        )
    };
    let open = |platform: &str| {
        let lower = platform.to_ascii_lowercase();
        !states(platform) && !lower.ends_with("/armhf") && !lower.ends_with("/armel")
    };
    (open(one) || open(other)) && without(one) == without(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_has_one_name() {
        for (names, normal) in [
            (
                &[
                    "linux/arm64",
                    "linux/arm64/v8",
                    "linux/aarch64",
                    "linux/ARM64",
                    "linux/aarch64/v8",
                ][..],
                "linux/arm64",
            ),
            (
                &[
                    "linux/amd64",
                    "linux/amd64/v1",
                    "linux/x86_64",
                    "linux/x86-64/v1",
                ],
                "linux/amd64",
            ),
            (
                &["linux/arm", "linux/arm/v7", "linux/arm/7", "linux/armhf"],
                "linux/arm/v7",
            ),
            (
                &["linux/arm/v6", "linux/arm/6", "linux/armel"],
                "linux/arm/v6",
            ),
            (&["linux/i386", "linux/386"], "linux/386"),
            (&["linux/amd64/v3", "linux/x86_64/v3"], "linux/amd64/v3"),
            (&["linux/riscv64"], "linux/riscv64"),
            (&["linux"], "linux"),
        ] {
            for name in names {
                assert_eq!(normal_platform(name), normal, "{name}");
            }
        }
    }

    #[test]
    fn a_variant_that_is_not_stated_is_any() {
        for (one, other, same) in [
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/aarch64", "linux/arm64/v8", true),
            ("linux/arm", "linux/arm/v6", true),
            ("linux/arm/v6", "linux/arm/v7", false),
            ("linux/armhf", "linux/arm/v6", false),
            ("linux/amd64", "linux/amd64/v3", true),
            ("linux/amd64/v2", "linux/amd64/v3", false),
            ("linux/amd64", "linux/arm64", false),
            ("windows/amd64", "linux/amd64", false),
        ] {
            assert_eq!(same_platform(one, other), same, "{one} {other}");
            assert_eq!(same_platform(other, one), same, "{other} {one}");
        }
    }
}
