//! Kubernetes quantities as bytes, and durations.

use k8s_openapi::jiff::SignedDuration;

/// Bytes of a quantity such as `20Gi`, `500M`, `1e9` or `1048576`; `None` where it is not one.
///
/// Source: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>
pub fn bytes(quantity: &str) -> Option<u64> {
    value(quantity).map(|value| value as u64)
}

/// The number that a quantity is, for example 0.5 of `500m`; `None` where it is not one.
pub fn value(quantity: &str) -> Option<f64> {
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
    (value.is_finite() && value >= 0.0).then_some(value)
}

/// A duration such as `30m` or `1h30m`, at least none and at most 30 days; the API server has checked
/// its form.
pub fn duration(text: &str) -> SignedDuration {
    let mut seconds = 0_i64;
    let mut number = 0_i64;
    for c in text.chars() {
        let unit = match c {
            '0'..='9' => {
                let digit = i64::from(c as u8 - b'0');
                number = number.saturating_mul(10).saturating_add(digit);
                continue;
            }
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => 0,
        };
        seconds = seconds.saturating_add(std::mem::take(&mut number).saturating_mul(unit));
    }
    SignedDuration::from_secs(seconds.clamp(0, 30 * 86_400))
}

/// The same, where nobody has checked its form: digits and a unit, once or more. None for anything else.
pub fn checked_duration(text: &str) -> Option<SignedDuration> {
    let mut digits = false;
    for c in text.chars() {
        match c {
            '0'..='9' => digits = true,
            'h' | 'm' | 's' if digits => digits = false,
            _ => return None,
        }
    }
    (!text.is_empty() && !digits).then(|| duration(text))
}

#[cfg(test)]
mod tests {
    use super::{bytes, checked_duration, duration};

    #[test]
    fn a_duration_of_another_form_is_none() {
        for wrong in ["", "m", "10", "10x", "-5s", "1m5", "1hm", "1 h"] {
            assert_eq!(checked_duration(wrong), None, "{wrong}");
        }
        assert_eq!(checked_duration("1h30m"), Some(duration("1h30m")));
    }

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

    #[test]
    fn durations_are_read_as_the_api_server_reads_them() {
        for (text, seconds) in [
            ("30m", 1800),
            ("1h30m", 5400),
            ("45s", 45),
            ("24h", 86_400),
            ("0s", 0),
            ("9999999h", 30 * 86_400),
        ] {
            assert_eq!(duration(text).as_secs(), seconds, "{text}");
        }
    }
}
