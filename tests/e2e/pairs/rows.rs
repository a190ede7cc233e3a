//! The pairs: an image, a probe on it in a Pod, and what their author knows of both.

use serde_json::{Value, json};

mod handlers;
mod programs;
mod shells;
mod templates;

/// Where the handler stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Startup,
    Readiness,
    Liveness,
    PostStart,
    PreStop,
}

impl Hook {
    /// As in a container.
    pub fn field(self) -> &'static str {
        match self {
            Self::Startup => "startupProbe",
            Self::Readiness => "readinessProbe",
            Self::Liveness => "livenessProbe",
            Self::PostStart => "postStart",
            Self::PreStop => "preStop",
        }
    }
}

/// What the kubelet does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reality {
    /// The probe succeeds, or the hook.
    Passes,
    /// There is an error before there is a result.
    Errors,
    /// The result is a failure. Errors of hooks are such, too.
    Fails,
}

/// What the author knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    Works,
    CannotWork(Reality),
    /// Whittle cannot know; this happens.
    Unknown(Reality),
}

impl Expect {
    pub fn verdict(self) -> &'static str {
        match self {
            Self::Works => "Works",
            Self::CannotWork(_) => "CannotWork",
            Self::Unknown(_) => "Unknown",
        }
    }

    pub fn reality(self) -> Reality {
        match self {
            Self::Works => Reality::Passes,
            Self::CannotWork(reality) | Self::Unknown(reality) => reality,
        }
    }
}

/// One pair.
pub struct Row {
    pub image: &'static str,
    pub hook: Hook,
    pub handler: Value,
    /// What is merged into the container.
    container: Value,
    /// What is merged into the Pod's spec; IMAGE stands for the image.
    pod: Value,
    /// Both in words.
    pub notes: Vec<&'static str>,
    /// The container is a sidecar.
    pub sidecar: bool,
    pub expect: Expect,
    /// The guard has to refuse it.
    pub refused: bool,
}

/// A pair whose handler is a startupProbe: one success is enough to see it, and one error.
fn of(image: &'static str, handler: Value) -> Row {
    Row {
        image,
        hook: Hook::Startup,
        handler,
        container: json!({}),
        pod: json!({}),
        notes: vec![],
        sidecar: false,
        expect: Expect::Works,
        refused: false,
    }
}

/// The same with a command.
fn exec(image: &'static str, command: &[&str]) -> Row {
    of(image, json!({"exec": {"command": command}}))
}

impl Row {
    fn at(mut self, hook: Hook) -> Self {
        self.hook = hook;
        self
    }

    fn with(mut self, note: &'static str, container: Value) -> Self {
        json_patch::merge(&mut self.container, &container);
        self.notes.push(note);
        self
    }

    fn in_pod(mut self, note: &'static str, pod: Value) -> Self {
        json_patch::merge(&mut self.pod, &pod);
        self.notes.push(note);
        self
    }

    fn into_sidecar(mut self) -> Self {
        self.sidecar = true;
        self.notes.push("a sidecar");
        self
    }

    /// It cannot work, for it cannot be started.
    fn errors(mut self) -> Self {
        let hook = matches!(self.hook, Hook::PostStart | Hook::PreStop);
        self.expect = Expect::CannotWork(if hook {
            Reality::Fails
        } else {
            Reality::Errors
        });
        self
    }

    /// It cannot work: it starts, and fails each time.
    fn fails(mut self) -> Self {
        self.expect = Expect::CannotWork(Reality::Fails);
        self
    }

    fn unknown(mut self, reality: Reality) -> Self {
        self.expect = Expect::Unknown(reality);
        self
    }

    fn refused(mut self) -> Self {
        self.refused = true;
        self
    }

    /// The handler, for people.
    pub fn does(&self) -> String {
        match self.handler.pointer("/exec/command") {
            Some(command) => command.to_string(),
            None => self.handler.to_string(),
        }
    }

    /// The Pod's spec.
    pub fn spec(&self, image: &str) -> Value {
        let mut container = json!({"name": "main", "image": image});
        let place = match self.hook {
            Hook::PostStart | Hook::PreStop => {
                json!({"lifecycle": {self.hook.field(): self.handler}})
            }
            _ => {
                let mut probe = json!({"periodSeconds": 3, "timeoutSeconds": 20,
                    // One failure decides for a liveness probe. A startup probe may come before the program listens.
                    "failureThreshold": if self.hook == Hook::Liveness { 1 } else { 100 }});
                json_patch::merge(&mut probe, &self.handler);
                json!({self.hook.field(): probe})
            }
        };
        json_patch::merge(&mut container, &place);
        // What is looked at only once must find the program listening.
        let listens =
            json!({"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 300});
        match self.hook {
            Hook::Liveness => container["startupProbe"] = listens,
            Hook::PreStop => container["readinessProbe"] = listens,
            Hook::Startup | Hook::Readiness | Hook::PostStart => {}
        }
        json_patch::merge(&mut container, &self.container);
        let mut spec = json!({
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": if self.hook == Hook::PreStop { 20 } else { 1 },
        });
        if self.sidecar {
            container["restartPolicy"] = json!("Always");
            spec["initContainers"] = json!([container]);
            spec["containers"] =
                json!([{"name": "other", "image": image, "command": ["/app", "serve"]}]);
        } else {
            spec["containers"] = json!([container]);
        }
        json_patch::merge(&mut spec, &self.pod);
        serde_json::from_str(&spec.to_string().replace("IMAGE", image)).unwrap()
    }
}

/// All pairs.
pub fn all() -> Vec<Row> {
    let mut all = programs::rows();
    all.extend(shells::rows());
    all.extend(templates::rows());
    all.extend(handlers::rows());
    all
}
