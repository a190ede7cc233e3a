//! Kubernetes quantities as bytes.

/// Bytes of a quantity such as `20Gi`, `500M`, `1e9` or `1048576`; `None` where it is not one.
///
/// Source: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>
pub fn bytes(quantity: &str) -> Option<u64> {
    const SUFFIXES: [(&str, f64); 13] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
        ("m", 1e-3),
    ];
    let (number, factor) = SUFFIXES
        .iter()
        .find_map(|(suffix, factor)| {
            quantity
                .strip_suffix(suffix)
                .map(|number| (number, *factor))
        })
        .unwrap_or((quantity, 1.0));
    let value = number.parse::<f64>().ok()? * factor;
    (value.is_finite() && value >= 0.0).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn binary_decimal_and_plain_quantities_are_read() {
        for (text, expected) in [
            ("20Gi", 21_474_836_480),
            ("1.5Ki", 1536),
            ("500M", 500_000_000),
            ("1e3", 1000),
            ("7", 7),
        ] {
            assert_eq!(bytes(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_none() {
        for text in ["", "Gi", "-1", "abc", "1GB", "inf"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
