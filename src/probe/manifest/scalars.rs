//! Pure: what a scalar of YAML is, as kubectl has it (resolve.go and decode.go of go-yaml 2, and the keys of
//! sigs.k8s.io/yaml).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Number, Value};

/// Whole numbers up to here are written without a point or an exponent by Go, and are read as whole numbers.
const WHOLE: f64 = 9.0e18;

/// A scalar's tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag<'t> {
    /// None.
    None,
    /// One of YAML's own: `str`, `int`, `binary`.
    Own(&'t str),
    /// Another, by which nothing is resolved.
    Other,
}

/// The value of a scalar; why it has none.
pub(super) fn value(text: &str, is_plain: bool, tag: Tag<'_>) -> Result<Value, String> {
    let quoted = || Value::String(text.to_owned());
    let wrong = |tag: &str| Err(format!("{text} is not a valid !!{tag}"));
    match tag {
        Tag::None if is_plain => plain(text),
        Tag::None | Tag::Other | Tag::Own("str") => Ok(quoted()),
        Tag::Own("binary") => {
            let bytes = STANDARD
                .decode(text.split_whitespace().collect::<String>())
                .map_err(|_| "a !!binary value contains invalid base64 data".to_owned())?;
            Ok(Value::String(String::from_utf8_lossy(&bytes).into_owned()))
        }
        Tag::Own(own @ ("int" | "float" | "bool" | "null")) => {
            let found = plain(text)?;
            let fits = match own {
                "int" => found.is_i64() || found.is_u64(),
                "float" => found.is_number(),
                "bool" => found.is_boolean(),
                _ => found.is_null(),
            };
            if fits { Ok(found) } else { wrong(own) }
        }
        Tag::Own(_) => Ok(quoted()),
    }
}

/// The name that a value has as a key; why it can have none.
pub(super) fn key(value: &Value) -> Result<String, &'static str> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        Value::Null => Err("a key is null"),
        Value::Array(_) | Value::Object(_) => Err("a key must be a string, not a list or a map"),
    }
}

/// The first escape of a double-quoted scalar that go-yaml does not take; `text` as it is written.
pub(super) fn bad_escape(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let escape = &rest[at..];
        let surrogate = escape
            .strip_prefix("\\u")
            .and_then(|code| code.get(..4))
            .is_some_and(|code| matches!(u32::from_str_radix(code, 16), Ok(0xd800..=0xdfff)));
        if escape.starts_with("\\/") || surrogate {
            return Some(&escape[..2]);
        }
        let next = escape[1..].chars().next().map_or(1, char::len_utf8);
        rest = &escape[1 + next..];
    }
    None
}

/// A plain scalar.
fn plain(text: &str) -> Result<Value, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => {
            return Ok(true.into());
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => {
            return Ok(false.into());
        }
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF"
        | "-.inf" | "-.Inf" | "-.INF" => {
            return Err(format!("{text} is a number that JSON does not support"));
        }
        _ => {}
    }
    let own = || Ok(Value::String(text.to_owned()));
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return own();
    }
    let digits = text.replace('_', "").to_ascii_lowercase();
    let (minus, number) = match digits.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, digits.strip_prefix('+').unwrap_or(&digits)),
    };
    let radix = |number: &str, radix| {
        u64::from_str_radix(number, radix)
            .ok()
            .filter(|_| !number.starts_with(['+', '-']))
    };
    let integer = if let Some(number) = number.strip_prefix("0x") {
        radix(number, 16)
    } else if let Some(number) = number.strip_prefix("0b") {
        radix(number, 2)
    } else if let Some(number) = number.strip_prefix("0o") {
        radix(number, 8)
    } else if number.len() > 1
        && number.starts_with('0')
        && number.bytes().all(|b| b.is_ascii_digit())
    {
        radix(number, 8)
    } else {
        radix(number, 10)
    };
    let signed = integer.and_then(|integer| match minus {
        true => 0_i64.checked_sub_unsigned(integer).map(Number::from),
        false => Some(Number::from(integer)),
    });
    if let Some(signed) = signed {
        return Ok(Value::Number(signed));
    }
    // Dates, addresses and the like begin with digits too: only what has the shape of a number is one.
    let shape = number.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && number
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'+' | b'-'));
    match digits.parse::<f64>().ok().filter(|_| shape) {
        Some(float) if float.fract() == 0.0 && float.abs() < WHOLE => Ok((float as i64).into()),
        Some(float) => {
            Ok(Number::from_f64(float)
                .map_or_else(|| Value::String(text.to_owned()), Value::Number))
        }
        None => own(),
    }
}
