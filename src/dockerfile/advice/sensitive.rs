//! Names and values of secrets. A name alone says little: `USE_AUTH_PLUGIN=True` is a switch,
//! `TOKEN_FILE=/run/x` a path, `GPG_KEY=…` a fingerprint that everybody may know.

/// How much a name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Says {
    /// No secret, whatever the value.
    Nothing,
    /// A secret where the value looks like one.
    Maybe,
    /// A secret where it has a value at all.
    Secret,
}

/// Words that say it; BuildKit's own (its check SecretsUsedInArgOrEnv) and a few more.
const SECRET: [&str; 12] = [
    "APIKEY",
    "CREDENTIAL",
    "CREDENTIALS",
    "PASS",
    "PASSPHRASE",
    "PASSWD",
    "PASSWORD",
    "PW",
    "PWD",
    "PWORD",
    "SECRET",
    "TOKEN",
];

/// What a KEY is, to be a secret.
const SECRET_KEY: [&str; 33] = [
    "ACCESS",
    "ACCOUNT",
    "ADMIN",
    "API",
    "APP",
    "APPLICATION",
    "AUTH",
    "AWS",
    "CLIENT",
    "DECRYPTION",
    "DEPLOY",
    "ENCRYPT",
    "ENCRYPTION",
    "JWT",
    "LICENCE",
    "LICENSE",
    "MASTER",
    "OPENAI",
    "PRIVATE",
    "PRIV",
    "ROOT",
    "SECRET",
    "SERVICE",
    "SESSION",
    "SHARED",
    "SIGN",
    "SSH",
    "STORAGE",
    "STRIPE",
    "SUBSCRIPTION",
    "USER",
    "WEBHOOK",
    "WRITE",
];

/// Words at the end of a name that make it one about a secret.
const ABOUT: [&str; 73] = [
    "AGE",
    "ALG",
    "ALGO",
    "ALGORITHM",
    "AUDIENCE",
    "BACKEND",
    "BITS",
    "CLASS",
    "COLUMN",
    "CONFIG",
    "COUNT",
    "DAYS",
    "DIR",
    "DIRECTORY",
    "DISABLED",
    "DOMAIN",
    "DRIVER",
    "EMAIL",
    "ENABLED",
    "ENDPOINT",
    "EXPIRATION",
    "EXPIRE",
    "EXPIRES",
    "EXPIRY",
    "FIELD",
    "FILE",
    "FINGERPRINT",
    "FORMAT",
    "HEADER",
    "HELPER",
    "HOST",
    "HOURS",
    "ID",
    "ISSUER",
    "KEYRING",
    "KIND",
    "LENGTH",
    "LIFETIME",
    "LIMIT",
    "LOCATION",
    "MANAGER",
    "METHOD",
    "MINUTES",
    "MODE",
    "MOUNT",
    "NAME",
    "NAMESPACE",
    "PARAM",
    "PATH",
    "PLUGIN",
    "POLICY",
    "PORT",
    "PREFIX",
    "PROVIDER",
    "REALM",
    "REF",
    "REGION",
    "REQUIRED",
    "SCOPE",
    "SCOPES",
    "SECONDS",
    "SERVER",
    "SERVICE",
    "SIZE",
    "STORE",
    "SUFFIX",
    "TIMEOUT",
    "TTL",
    "TYPE",
    "URI",
    "URL",
    "USERNAME",
    "VERSION",
];

/// Words anywhere in a name that make it none.
const PUBLIC: [&str; 12] = [
    "CACHE",
    "CHECKSUM",
    "DUMMY",
    "EXAMPLE",
    "FAKE",
    "FILE",
    "FINGERPRINT",
    "GPG",
    "PGP",
    "PUB",
    "PUBLIC",
    "VERSION",
];

/// A name that begins so is a switch.
const SWITCH: [&str; 20] = [
    "ALLOW", "DISABLE", "ENABLE", "FORCE", "GENERATE", "HAS", "IGNORE", "IS", "MAX", "MIN", "NO",
    "NUM", "REQUIRE", "SHOW", "SKIP", "USE", "USES", "VERIFY", "WITH", "WITHOUT",
];

/// Keys that open nothing.
const OPENS_NOTHING: [&str; 25] = [
    "APT",
    "BUCKET",
    "DICT",
    "FEATURE",
    "FOREIGN",
    "GROUP",
    "HOST",
    "I18N",
    "INDEX",
    "LOOKUP",
    "MAP",
    "MEASUREMENT",
    "OBJECT",
    "PARTITION",
    "PRIMARY",
    "QUEUE",
    "REDIS",
    "RELEASE",
    "REPO",
    "ROUTING",
    "RPM",
    "S3",
    "SORT",
    "TRANSLATION",
    "YUM",
];

/// Made for browsers: whatever stands there is public.
pub(super) fn is_for_browsers(name: &str) -> bool {
    [
        "EXPO_PUBLIC_",
        "GATSBY_",
        "NEXT_PUBLIC_",
        "NUXT_PUBLIC_",
        "PUBLIC_",
        "REACT_APP_",
        "VITE_",
        "VUE_APP_",
    ]
    .iter()
    .any(|start| name.starts_with(start))
}

fn says(name: &str) -> Says {
    let name = name.to_uppercase();
    if is_for_browsers(&name) {
        return Says::Nothing;
    }
    let words: Vec<&str> = name
        .split(['_', '-', '.'])
        .filter(|word| !word.is_empty())
        .collect();
    let [others @ .., last] = words.as_slice() else {
        return Says::Nothing;
    };
    if name == "PWD" || name == "OLDPWD" || name == "GOOGLE_APPLICATION_CREDENTIALS" {
        return Says::Nothing;
    }
    if name.ends_with("ACCESS_KEY_ID") || name == "DOCKER_AUTH_CONFIG" {
        return Says::Secret;
    }
    let opens = ["PASSPHRASE", "PASSWORD", "PRIVATE", "SECRET"];
    let public = words.iter().any(|word| PUBLIC.contains(word));
    let keyed = matches!(name.as_str(), n if n.contains("GPG") || n.contains("PGP"));
    let public = public && !(keyed && words.iter().any(|word| opens.contains(word)));
    let switch = others.first().is_some_and(|first| SWITCH.contains(first));
    if public || switch || ABOUT.contains(last) {
        return Says::Nothing;
    }
    let before = others.last().copied().unwrap_or_default();
    if words.iter().any(|word| SECRET.contains(word))
        || (*last == "KEY" && SECRET_KEY.contains(&before))
    {
        return Says::Secret;
    }
    match *last {
        "KEY" if OPENS_NOTHING.contains(&before) => Says::Nothing,
        "KEY" | "AUTH" | "DSN" => Says::Maybe,
        _ => Says::Nothing,
    }
}

/// True where a line such as those of `.env` sets a secret by its name.
pub(super) fn names_a_secret(name: &str, value: &str) -> bool {
    match says(name) {
        Says::Nothing => false,
        Says::Maybe => looks_random(value),
        Says::Secret => !name.to_uppercase().ends_with("ACCESS_KEY_ID") || is_access_key(value),
    }
}

/// True where an ARG or ENV holds a secret: `value` is none for an ARG without a default, whose value the
/// build gives.
pub(super) fn is_secret(name: &str, value: Option<&str>) -> bool {
    let Some(value) = value else {
        return says(name) != Says::Nothing;
    };
    // Short numbers are a password too.
    let bare = bare(value);
    let number = bare.len() >= 4 && bare.bytes().all(|b| b.is_ascii_digit());
    let password = number && name.to_uppercase().contains("PASS");
    (is_value(value) || password) && names_a_secret(name, value) && !repeats(name, bare)
}

/// `API_KEY=api_key`, `DB_PASSWORD=db-password`: the value only says the name again.
fn repeats(name: &str, value: &str) -> bool {
    let (name, value) = (name.to_uppercase(), value.to_uppercase());
    // With what marks a place to fill in: `__API_TOKEN__`, `<api-token>`, `%API_TOKEN%`.
    let words: Vec<&str> = value
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    words.len() > 1
        && words
            .iter()
            .all(|word| name.split('_').any(|own| own == *word))
}

fn is_access_key(value: &str) -> bool {
    let value = bare(value);
    value.starts_with("AKIA") || value.starts_with("ASIA")
}

fn bare(text: &str) -> &str {
    text.trim().trim_matches(['"', '\''])
}

/// Letters and digits, and long enough; or a user with a password.
fn looks_random(value: &str) -> bool {
    let value = bare(value);
    let digit = value.bytes().any(|b| b.is_ascii_digit());
    let letter = value.bytes().any(|b| b.is_ascii_alphabetic());
    let fingerprint = is_fingerprint(value);
    !fingerprint
        && ((value.len() >= 8 && digit && letter) || has_a_password(value) || value.len() >= 24)
}

/// Of a public key: forty digits, or the last sixteen or eight of them, in capitals.
fn is_fingerprint(value: &str) -> bool {
    let mut parts = value.split([' ', ',']).filter(|part| !part.is_empty());
    parts.all(|part| {
        let digits = part.trim_start_matches("0x");
        matches!(digits.len(), 8 | 16 | 40)
            && digits
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b))
    })
}

/// A value that is written out: neither empty, nor taken from elsewhere, nor a stand-in.
pub(super) fn is_value(text: &str) -> bool {
    let text = text.split(" #").next().unwrap_or(text);
    let value = bare(text).to_lowercase();
    if has_a_password(&value) {
        return true;
    }
    const STAND_IN: [&str; 38] = [
        "admin",
        "auto",
        "bar",
        "basic",
        "build",
        "builtin",
        "default",
        "demo",
        "dev",
        "development",
        "disabled",
        "empty",
        "enabled",
        "false",
        "foo",
        "ldap",
        "local",
        "n/a",
        "nil",
        "no",
        "none",
        "null",
        "oauth",
        "oauth2",
        "off",
        "on",
        "optional",
        "pass",
        "password",
        "required",
        "secret",
        "tbd",
        "test",
        "testing",
        "token",
        "true",
        "undefined",
        "yes",
    ];
    const SAYS_SO: [&str; 39] = [
        "anything",
        "build-time",
        "build_time",
        "buildtime",
        "change-it",
        "change-me",
        "change-this",
        "change_it",
        "change_me",
        "change_this",
        "changeit",
        "changeme",
        "changethis",
        "does-not",
        "does_not",
        "doesnt",
        "dummy",
        "example",
        "fake",
        "fixme",
        "insert",
        "irrelevant",
        "not-a-secret",
        "not-needed",
        "not-used",
        "not_needed",
        "not_used",
        "notasecret",
        "notused",
        "override",
        "placeholder",
        "precompile",
        "redacted",
        "replace",
        "sample",
        "todo",
        "unused",
        "whatever",
        "xxx",
    ];
    // Taken from elsewhere, or a mark for somebody to write over.
    const FOREIGN: [&str; 22] = [
        "$", "%", "***", "...", "/", "./", "../", "<", "@", "[", "arn:", "c:\\", "enter-",
        "enter_", "env:", "file:", "gcp:", "op://", "put-", "put_", "vault:", "your",
    ];
    let here = ["_here", "-here", " here", ">"]
        .iter()
        .any(|end| value.ends_with(end));
    let in_braces = value.starts_with('{') && !value.contains(':');
    let address = value.contains("://");
    let file = [".json", ".txt", ".pem", ".key"];
    let path = value.starts_with('~')
        || (value.contains('/') && file.iter().any(|end| value.ends_with(end)));
    !value.is_empty()
        && !STAND_IN.contains(&value.as_str())
        && !SAYS_SO.iter().any(|word| value.contains(word))
        && !FOREIGN.iter().any(|start| value.starts_with(start))
        && !value.contains("{{")
        && !in_braces
        && !here
        && !address
        && !path
        && !value
            .bytes()
            .all(|b| matches!(b, b'-' | b'_' | b'.' | b'*'))
        && !value.bytes().all(|b| b.is_ascii_digit() && value.len() < 6)
}

/// `scheme://user:password@host`
pub(super) fn has_a_password(text: &str) -> bool {
    let mut parts = text.split("://");
    parts.next();
    parts.any(|after| {
        let end = after
            .find(['/', '?', '#', ' ', '"', '\''])
            .unwrap_or(after.len());
        after[..end]
            .rsplit_once('@')
            .and_then(|(user, host)| {
                let local = host.starts_with("localhost") || host.starts_with("127.");
                user.split_once(':').filter(|_| !local)
            })
            .is_some_and(|(_, password)| is_value(password))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_by_its_name_and_its_value() {
        for (name, value) in [
            ("API_KEY", "x"),
            ("DB_PASSWORD", "hunter22"),
            ("MYSQL_ROOT_PASSWORD", "1234"),
            ("STRIPE_SECRET_KEY", "'sk_live_1'"),
            ("SECRET_KEY_BASE", "9c1b04c7d0e7"),
            ("NPM_TOKEN", "npm_abc123"),
            (
                "APP_KEY",
                "base64:2fl+Ktvkfl+Fuz4Qp/A75G2RTiWVA/ZoKZvp6fiiM10=",
            ),
            ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7ABCDEFG"),
            ("MAPS_KEY", "AIzaSyA1b2c3d4"),
            ("GPG_PASSPHRASE", "correct horse"),
            ("BASIC_AUTH", "http://me:s3cr3t@host"),
            ("github_token", "ghp_0123"),
            ("POSTGRES_PASSWORD", "postgres"),
            (
                "DOCKER_AUTH_CONFIG",
                "{\"auths\": {\"x\": {\"auth\": \"bWU6cHc\"}}}",
            ),
        ] {
            assert!(is_secret(name, Some(value)), "{name}={value}");
        }
        for name in [
            "NPM_TOKEN",
            "DB_PASSWORD",
            "AWS_SECRET_ACCESS_KEY",
            "SSH_PRIVATE_KEY",
            "NPM_AUTH",
            "ENC_KEY",
        ] {
            assert!(is_secret(name, None), "{name}");
        }
    }

    #[test]
    fn a_switch_a_path_a_fingerprint_or_a_stand_in_is_none() {
        for (name, value) in [
            ("USE_GKE_GCLOUD_AUTH_PLUGIN", "True"),
            ("DOCKER_CREDENTIAL_GCR_CONFIG", "/kaniko/.config/x.json"),
            ("GPG_KEY", "C823E3E5B12AF29C67F81976F5CECB3CB5E9BD2D"),
            ("RELEASE_KEY", "7BD9BF62"),
            (
                "NODE_KEY",
                "4ED778F539E3634C779C87C6D7062848A1AB005C, 141F07595B7B3FFE74309A937405533BE57C7D57",
            ),
            ("MC_ADMIN_PASSWORD", ""),
            ("MC_ADMIN_PASSWORD", "\"\""),
            ("AUTH_METHOD", "basic"),
            ("AUTH", "none"),
            ("REQUIRE_AUTH", "yes"),
            ("TOKEN_TTL", "3600"),
            ("TOKEN", "/var/run/secrets/token"),
            ("SSH_KEY", "~/.ssh/id"),
            ("SECRET_NAME", "db"),
            ("KEY_ID", "abc123def456"),
            ("CACHE_KEY", "a1b2c3d4e5"),
            ("REDIS_KEY", "jobs"),
            ("PASSWORD_FILE", "x"),
            ("AUTH_URL", "https://id.example.com/a1"),
            ("TOKEN", "https://id.example.com/token"),
            ("LICENSE_KEY", "REPLACE_LICENSE_KEY_HERE"),
            ("LICENSE_KEY", "<license key>"),
            ("API_KEY", "your-api-key"),
            ("API_KEY", "{{ .Values.key }}"),
            ("ACCESS_KEY", "{Your Key}"),
            ("SECRET_KEY", "{some key}"),
            ("API_KEY", "xxxxxxxx-xxxx"),
            ("SECRET_KEY", "change_me"),
            ("SECRET_KEY", "dummy-for-build"),
            ("SECRET_KEY_BASE_DUMMY", "1"),
            ("SECRET_KEY_BASE", "required_but_does_not_matter"),
            ("NOTIFY_API_KEY", "replace_this_at_build_time"),
            ("ALLOW_EMPTY_PASSWORD", "yes1234"),
            ("API_TOKEN", "vault:secret/data/x#y"),
            ("PUBLIC_KEY", "abc123def456"),
            ("GOOGLE_APPLICATION_CREDENTIALS", "key1.json"),
            ("MONKEY", "a1b2c3d4e5"),
            ("PWD", "a1b2c3d4"),
            ("NEW_RELIC_LICENSE_KEY", "license_key"),
            ("DB_PASSWORD", "db-password"),
            ("VITE_API_KEY", "AIzaSyA1b2c3d4"),
            ("SSH_AUTH_SOCK", "agent1234"),
            ("POSTGRES_HOST_AUTH_METHOD", "trust"),
        ] {
            assert!(!is_secret(name, Some(value)), "{name}={value}");
        }
        for name in [
            "GPG_KEY",
            "VITE_API_KEY",
            "SSH_AUTH_SOCK",
            "USE_AUTH",
            "AUTH_TYPE",
            "TOKEN_URL",
            "CACHE_KEY",
            "PUBLIC_KEY",
        ] {
            assert!(!is_secret(name, None), "{name}");
        }
    }
}
