//! What others refuse (the API server, its quotas, policies and webhooks) in their own words, with the fix.
//!
//! A refusal comes as the answer to a call, or as the event of a controller that acts for us. The words are those of
//! others: they are cut and cleaned before they are kept, and tell classes apart, never more.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use whittle_api::Reason;
pub use whittle_image::text::words;

/// Characters in a row without a blank or a dash that a name never has, and a key in base64 does.
const KEY_LIKE: usize = 40;

/// What was to be done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// It was to be made.
    Create,
    /// It was to be made or changed.
    Apply,
    /// Its status was to be written.
    WriteStatus,
}

/// The object of a call that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// What was to be done to it.
    pub verb: Verb,
    /// Its kind, `Job`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A call that the API server refused, and will refuse again until something changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The call in words, `creating Job team/hello-1`.
    pub what: String,
    /// Its object, where it was to write one.
    pub object: Option<Object>,
    /// What is refused.
    pub why: Why,
    /// The API server's words, cut and cleaned.
    pub words: String,
}

/// Classes of refusals: each has its own fix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The object itself: it is wrong, or too large. Nothing but another object helps.
    Invalid,
    /// The level of Pod Security that the namespace enforces, which is below `privileged`.
    PodSecurity,
    /// The same, on a cluster whose `baseline` does not know of user namespaces yet.
    PodSecurityProcMount,
    /// The same, which is `restricted`: of what needs `baseline`.
    PodSecurityRestricted,
    /// A ResourceQuota that needs every container to name its requests or limits.
    QuotaUnnamed,
    /// A ResourceQuota that is used up.
    Quota,
    /// A LimitRange.
    LimitRange,
    /// An admission policy, or a webhook.
    Policy,
    /// Whittle's own policy: the object is somebody else's.
    NotOurs,
    /// The PriorityClass, RuntimeClass or ServiceAccount of a Pod does not exist.
    Missing,
    /// Anything else that is forbidden, permissions of the controller first.
    Forbidden,
}

impl Refusal {
    /// The refusal in an answer of the API server; none where the same call may well be taken a moment later
    /// (a conflict, too many requests, a server that fails) or there is nobody to tell.
    pub fn of(what: &str, object: Option<Object>, code: u16, message: &str) -> Option<Self> {
        let too_large = message.contains("request is too large");
        let webhook = message.contains("failed calling webhook");
        let refused = match code {
            400 | 413 | 422 => true,
            403 => !message.contains("being terminated"),
            500.. => too_large || webhook,
            _ => false,
        };
        if !refused {
            return None;
        }
        let secret = object.as_ref().is_some_and(|it| it.kind == "Secret");
        Some(Self {
            what: what.to_owned(),
            object,
            why: match code {
                413 => Why::Invalid,
                _ if too_large => Why::Invalid,
                _ => why(code == 403, message),
            },
            words: match secret {
                // Policies may quote what they refuse.
                true => without_keys(&words(message)),
                false => words(message),
            },
        })
    }

    /// True where only a change of the ImageBuild's own spec can help: its Job or its request is wrong.
    pub fn is_final(&self) -> bool {
        self.why == Why::Invalid
            && self
                .object
                .as_ref()
                .is_some_and(|it| it.verb == Verb::Create && it.kind != "Builder")
    }

    /// True where a Builder itself was refused: it is made from the chart's values.
    fn is_of_builder(&self) -> bool {
        let object = self.object.as_ref();
        object.is_some_and(|it| it.kind == "Builder" && it.verb == Verb::Create)
    }

    /// True where a status was refused, as it is.
    pub fn is_of_status(&self) -> bool {
        let verb = self.object.as_ref().map(|object| object.verb);
        verb == Some(Verb::WriteStatus)
    }
}

/// Whose objects are refused: the fixes differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose<'a> {
    /// Those of the Builder of this name.
    Builder(&'a str),
    /// A build's: its request, its Job, its runner's Pod.
    Runner,
    /// Those of the check of an image.
    Check,
    /// Those of a Builder's watcher.
    Watcher,
}

/// Class of a refusal, by the words of the API server and its admission plugins.
pub fn why(forbidden: bool, message: &str) -> Why {
    let has = |text: &str| message.contains(text);
    if has("violates PodSecurity") && has("seccompProfile") {
        Why::PodSecurity
    } else if has("violates PodSecurity \"baseline") && has("procMount") {
        Why::PodSecurityProcMount
    } else if has("violates PodSecurity") {
        Why::PodSecurityRestricted
    } else if has("failed quota") {
        Why::QuotaUnnamed
    } else if has("exceeded quota") {
        Why::Quota
    } else if has("denied request: not whittle's: ") {
        Why::NotOurs
    } else if has("denied the request") || has("denied request") || has("failed calling webhook") {
        Why::Policy
    } else if has(" usage per ") || has("limit to request ratio per ") {
        Why::LimitRange
    } else if has("no PriorityClass with name")
        || has("error looking up service account")
        || (has("RuntimeClass") && has("not found"))
    {
        Why::Missing
    } else if forbidden || (has(" is forbidden: ") && !has(" is invalid: ")) {
        Why::Forbidden
    } else {
        Why::Invalid
    }
}

impl Why {
    /// The reason in conditions.
    pub fn reason(self) -> Reason {
        match self {
            Self::Invalid => Reason::Rejected,
            Self::PodSecurity | Self::PodSecurityProcMount | Self::PodSecurityRestricted => {
                Reason::PodSecurity
            }
            Self::Quota | Self::QuotaUnnamed => Reason::QuotaExceeded,
            Self::LimitRange => Reason::LimitRange,
            Self::Policy => Reason::AdmissionDenied,
            Self::NotOurs => Reason::NameTaken,
            Self::Missing => Reason::ClassNotFound,
            Self::Forbidden => Reason::Forbidden,
        }
    }
}

/// A sentence for people about a call that was refused: what, the fix, and the API server's words.
pub fn of_call(refusal: &Refusal, namespace: &str, whose: Whose) -> String {
    let Refusal {
        what, why, words, ..
    } = refusal;
    let taken = refusal.object.as_ref().filter(|_| *why == Why::NotOurs);
    let fix = match taken {
        Some(Object { kind, name, .. }) => format!(
            "conflict: {kind} {name} already exists and does not belong to Whittle: make sure \
                that nothing needs it, then kubectl delete {} {name} -n {namespace}",
            kind.to_lowercase()
        ),
        None if *why == Why::Invalid && refusal.is_of_builder() => {
            "builder.defaults of the chart is invalid: change it".to_owned()
        }
        None if *why == Why::Invalid && refusal.is_of_status() => {
            "make sure that the CustomResourceDefinitions are those of this version: upgrade the chart, or apply the output of \
             `whittle crds`"
                .to_owned()
        }
        None => fix(*why, namespace, whose),
    };
    format!(
        "{what} is {}: {fix}. The API server says: {words}",
        verb(*why)
    )
}

/// The same about a Pod or a claim that another controller could not make; `message` is that of its
/// `FailedCreate` event. Returns the reason too.
pub fn of_event(message: &str, namespace: &str, whose: Whose) -> (Reason, String) {
    // `Error creating: …` of Jobs, `create Pod … in StatefulSet … failed error: …` of StatefulSets.
    let said = message
        .split_once(" failed error: ")
        .or_else(|| message.split_once("Error creating: "))
        .map_or(message, |(_, said)| said);
    let why = why(false, said);
    let thing = match whose {
        _ if message.contains("create Claim ") => "the builder's volume",
        Whose::Builder(_) => "the builder's Pod",
        Whose::Runner => "the runner's Pod",
        Whose::Check => "the health check Pod",
        Whose::Watcher => "its Pod",
    };
    let fix = fix(why, namespace, whose);
    let message = format!(
        "{thing} is {}: {fix}. The API server says: {}",
        verb(why),
        words(said)
    );
    (why.reason(), message)
}

/// An invalid object is rejected, all else denied.
fn verb(why: Why) -> &'static str {
    match why {
        Why::Invalid => "rejected",
        _ => "denied",
    }
}

fn fix(why: Why, namespace: &str, whose: Whose) -> String {
    // What to change where the Pod itself asks for too much or too little.
    let ask = match whose {
        Whose::Builder(name) => format!("spec.resources or spec.cache.size of Builder {name}"),
        Whose::Runner => "runner.resources of the chart".to_owned(),
        Whose::Check => "spec.healthCheck.memory".to_owned(),
        // What a watcher asks for is the same everywhere.
        Whose::Watcher => "what else the namespace runs".to_owned(),
    };
    match (why, whose) {
        (Why::PodSecurity, Whose::Builder(name)) => format!(
            "Pod Security of the namespace forbids rootless builds. Run: kubectl label namespace {namespace} \
             pod-security.kubernetes.io/enforce=privileged --overwrite; or set spec.isolation of Builder {name} to \
             UserNamespace, which needs level baseline"
        ),
        (Why::PodSecurityProcMount, Whose::Builder(_)) => format!(
            "Pod Security of the namespace forbids a /proc of its own to a Pod in a user namespace, which level baseline allows \
             since Kubernetes 1.35 alone. Run: kubectl label namespace {namespace} \
             pod-security.kubernetes.io/enforce=privileged --overwrite"
        ),
        (Why::PodSecurityRestricted, Whose::Builder(_)) => format!(
            "Pod Security of the namespace forbids builds: they need level baseline. Run: kubectl label namespace {namespace} \
             pod-security.kubernetes.io/enforce=baseline --overwrite"
        ),
        (Why::PodSecurity | Why::PodSecurityProcMount | Why::PodSecurityRestricted, _) => format!(
            "the Pod meets Pod Security level restricted as Whittle creates it, so something changes it afterwards (a \
             webhook or a policy), or an exemption is missing: kubectl get namespace {namespace} --show-labels"
        ),
        (Why::QuotaUnnamed, Whose::Builder(name)) => format!(
            "a ResourceQuota of the namespace requires requests and limits for every container. \
                Run: kubectl patch builder {name} -n {namespace} --type merge -p \
                '{{\"spec\":{{\"resources\":{{\"requests\":{{\"cpu\":\"500m\",\"memory\":\"1Gi\"}},\"limits\":{{\"cpu\":\"2\",\"memory\":\"4Gi\"}}}}}}}}' \
                (for Builders to come: builder.defaults.resources of the chart)"
        ),
        (Why::QuotaUnnamed, Whose::Watcher) => format!(
            "a ResourceQuota of the namespace requires requests and limits for every container: create a LimitRange with \
             defaults (kubectl describe quota -n {namespace})"
        ),
        (Why::QuotaUnnamed, _) => format!(
            "a ResourceQuota of the namespace requires requests and limits for every container: \
                set {ask}, or create a LimitRange with defaults"
        ),
        (Why::Quota, _) => format!(
            "a ResourceQuota of the namespace is exceeded: raise it (kubectl describe quota -n \
                {namespace}), or lower {ask}"
        ),
        (Why::LimitRange, Whose::Watcher) => format!(
            "a LimitRange of the namespace forbids it: change the LimitRange (kubectl describe limitrange -n {namespace})"
        ),
        (Why::LimitRange, _) => format!(
            "a LimitRange of the namespace forbids it: change {ask}, or the LimitRange (kubectl describe limitrange -n \
             {namespace})"
        ),
        (Why::Policy, _) => "an admission policy or webhook of the cluster denies it: change what it objects to, or \
            ask its owner for an exception".into(),
        (Why::NotOurs, _) => "conflict: an object of this name already exists and does not belong to Whittle: rename \
            or delete it".into(),
        (Why::Missing, Whose::Builder(name)) => format!(
            "a PriorityClass, RuntimeClass or ServiceAccount was not found (the message below names \
                it): create it, or change priorityClassName or runtimeClassName of Builder {name}"
        ),
        (Why::Missing, _) => "a PriorityClass or ServiceAccount was not found (the message below names it): create it, or \
            change runner.priorityClassName of the chart".into(),
        (Why::Forbidden, _) => format!(
            "it is forbidden: fix what the message below names; if that is a missing permission \
                of the controller, install its chart with rbac.create=true (kubectl auth can-i \
                --list -n {namespace} shows yours)"
        ),
        (Why::Invalid, Whose::Builder(name)) => format!("the spec of Builder {name} is invalid: change it"),
        (Why::Invalid, _) => "the spec is invalid: change it (what the spec does not set comes from runner of the chart)".into(),
    }
}

/// When to try or look again at what has been refused since `since`: soon at first, so that the words come within
/// ten seconds and a mended cluster is quick; then ever less often, at most every 30 seconds.
pub fn look_again(since: Timestamp, now: Timestamp) -> SignedDuration {
    let waited = now.duration_since(since).as_secs();
    SignedDuration::from_secs((waited / 5).clamp(2, 30))
}

/// An event of an object that something of ours waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Kind of the object.
    pub kind: String,
    /// The event's reason, `FailedCreate`.
    pub reason: String,
    /// Its message, cut and cleaned.
    pub words: String,
    /// When it was last seen.
    pub at: Option<Timestamp>,
}

/// The text without runs of characters as keys in base64 are made of.
fn without_keys(text: &str) -> String {
    let of_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let run = rest.find(|c| !of_key(c)).unwrap_or(rest.len());
        match run {
            0 => {
                let next = rest.chars().next().map_or(0, char::len_utf8);
                clean.push_str(&rest[..next]);
                rest = &rest[next..];
            }
            _ => {
                clean.push_str(if run < KEY_LIKE { &rest[..run] } else { "…" });
                rest = &rest[run..];
            }
        }
    }
    clean
}

#[cfg(test)]
#[path = "refusal_tests.rs"]
mod tests;
