//! Sizes for people.

/// A number of bytes for people, in binary units with one digit after the point: `4.6 MiB`, `669 B`.
/// Negative numbers count as none.
pub fn display_size(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let bytes = bytes.max(0).unsigned_abs();
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Tenths of the unit, rounded half up, in whole numbers: no float decides a digit.
    let mut unit = 1024_u128;
    for name in UNITS {
        let tenths = (u128::from(bytes) * 10 + unit / 2) / unit;
        if tenths < 10 * 1024 || name == "EiB" {
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
        unit *= 1024;
    }
    unreachable!("the last unit always answers")
}

#[cfg(test)]
mod tests {
    use super::display_size;

    #[test]
    fn sizes_have_binary_units_and_one_digit_after_the_point() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (4_812_345, "4.6 MiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (1_073_741_824, "1.0 GiB"),
            (i64::MAX, "8.0 EiB"),
            (-5, "0 B"),
        ] {
            assert_eq!(display_size(bytes), text, "{bytes}");
        }
    }
}
