//! The table of smaller images: what an image prints, it prints without what its program never reaches, byte for byte; and where
//! nobody can know what that is, the health check says so, and a trace is the cure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};
use whittle_api::{ImageBuild, ImageBuildStatus, MinimizeOutcome};

use crate::field::{Field, PATIENCE};
use crate::long;
use crate::truth;

mod rows;

use rows::{Needs, Row};

/// Rows that are looked at side by side.
const AT_ONCE: usize = 4;
/// What every program prints at its end.
const WORDS: &str = "it ran";

/// What became of one image.
struct Seen {
    status: ImageBuildStatus,
    /// Exit code and output of the full image, and of what was tagged.
    full: (i32, String),
    tagged: (i32, String),
}

impl Seen {
    fn outcome(&self) -> MinimizeOutcome {
        self.status.minimized.as_ref().unwrap().outcome
    }

    /// What is wrong with it; nothing where both print the same, and it came to one of these.
    fn wrong(&self, name: &str, outcomes: &[MinimizeOutcome]) -> Option<String> {
        let told = self.status.minimized.as_ref().unwrap();
        let right = outcomes.contains(&told.outcome);
        let same = self.full == self.tagged && self.full.0 == 0;
        (!right || !same).then(|| {
            format!(
                "{name}: {:?}: {}\n  full: {:?}\n  tagged: {:?}",
                told.outcome, told.message, self.full, self.tagged
            )
        })
    }
}

/// A Builder that takes some of them at a time.
async fn field(name: &str) -> Field {
    let mut field = Field::new(name).await;
    field.patience = 6 * PATIENCE;
    field.builder_of_tables(AT_ONCE).await;
    field
}

/// What `minimize` asks for, and the check that the program ends well.
fn spec(trace: bool) -> Value {
    json!({"minimize": {"mode": "Apply", "trace": trace}, "contract": null,
        "healthCheck": {"run": {"stdout": WORDS}, "timeoutSeconds": 60}})
}

/// Waits for a build, and runs both images.
async fn look(field: &Field, name: &str) -> Seen {
    let status = field.succeeds(name).await;
    let repository = field.image(name);
    let told = status.minimized.clone().unwrap();
    let image = |digest: &str| format!("{repository}@{digest}");
    let full = image(&told.full_digest);
    let tagged = image(status.digest.as_deref().unwrap());
    let full = printed(field, &format!("{name}-full"), &full).await;
    let tagged = printed(field, name, &tagged).await;
    // With it goes the Pod of its runner.
    let builds = field.api::<ImageBuild>();
    builds
        .delete(name, &DeleteParams::background())
        .await
        .unwrap();
    Seen {
        status,
        full,
        tagged,
    }
}

/// Runs an image as a restricted Pod: its exit code and what it printed.
async fn printed(field: &Field, name: &str, image: &str) -> (i32, String) {
    let pod = json!({"metadata": {"name": name}, "spec": {
        "restartPolicy": "Never", "automountServiceAccountToken": false, "enableServiceLinks": false, "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsUser": 65532, "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "main", "image": image,
            "securityContext": {"capabilities": {"drop": ["ALL"]}, "allowPrivilegeEscalation": false}}]}});
    let pods = field.api::<Pod>();
    let pod = serde_json::from_value(pod).unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let end = field
        .until(&format!("Pod {name} has ended"), async || {
            let status = pods.get(name).await.unwrap().status?;
            let state = status.container_statuses?.first()?.state.clone()?;
            let refused = state
                .waiting
                .and_then(|it| it.message)
                .filter(|it| it.contains("unable to start"));
            match (state.terminated, refused) {
                (Some(end), _) => Some(match end.reason.as_deref() {
                    Some("StartError") => (end.exit_code, end.message),
                    _ => (end.exit_code, None),
                }),
                (None, Some(why)) => Some((-1, Some(why))),
                _ => None,
            }
        })
        .await;
    let output = match end.1 {
        Some(why) => why,
        None => field.log(name).await,
    };
    let now = DeleteParams::default().grace_period(0);
    pods.delete(name, &now).await.unwrap();
    (end.0, output)
}

/// Of small bases, one of each kind.
const SAMPLE: &str = "bash-tools,bash-computed,sh-alpine";

/// Those that the variable ROWS names, parted by commas; else all, or a sample.
fn chosen() -> Vec<Row> {
    let only = std::env::var("ROWS").ok().filter(|only| !only.is_empty());
    let only = match (only, long::whole()) {
        (Some(only), _) => only,
        (None, true) => return rows::all(),
        (None, false) => SAMPLE.to_owned(),
    };
    let wanted = |row: &Row| only.split(',').any(|name| name == row.name);
    rows::all().into_iter().filter(wanted).collect()
}

#[tokio::test]
async fn what_an_image_prints_it_prints_without_what_its_program_never_reaches() {
    use MinimizeOutcome::{Applied, FullUsed, TooLittle};
    let field = field("minimal").await;
    let rows = chosen();
    for row in &rows {
        let (name, text) = row.file;
        let dockerfile = format!(
            "FROM {}\nWORKDIR /src\nCOPY {name} .\n{}",
            row.base, row.rest
        );
        let files = || json!({"Dockerfile": dockerfile, name: text});
        field.build(row.name, files(), spec(false)).await;
        if row.needs == Needs::Trace {
            field.build(&traced(row), files(), spec(true)).await;
        }
    }
    let names = rows.iter().map(|row| row.name.to_owned());
    let names: Vec<String> = names
        .chain(
            rows.iter()
                .filter(|row| row.needs == Needs::Trace)
                .map(traced),
        )
        .collect();
    let seen: BTreeMap<&str, Seen> = futures::stream::iter(&names)
        .map(async |name| (name.as_str(), look(&field, name).await))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let mut table = String::from(
        "| image | base | what it shows | as built | minimized | how |\n|---|---|---|---|---|---|\n",
    );
    let mut wrong = vec![];
    for row in &rows {
        let found = &seen[row.name];
        let (last, how) = match row.needs {
            Needs::Static => {
                wrong.extend(found.wrong(row.name, &[Applied, TooLittle]));
                (found, "read")
            }
            Needs::Trace => {
                let name = traced(row);
                let traced = &seen[name.as_str()];
                wrong.extend(found.wrong(row.name, &[FullUsed]));
                wrong.extend(traced.wrong(&name, &[Applied]));
                (traced, "the check rejects it; traced")
            }
        };
        line(&mut table, (row.name, row.base, row.about), last, how);
    }
    write("minimal", &table);
    truth::none_wrong(wrong.into_iter().map(Some).collect::<Vec<_>>().into_iter());
    field.close().await;
}

fn traced(row: &Row) -> String {
    format!("{}-traced", row.name)
}

fn line(table: &mut String, (name, base, about): (&str, &str, &str), seen: &Seen, how: &str) {
    let told = seen.status.minimized.as_ref().unwrap();
    let size = |bytes: Option<i64>| bytes.map_or_else(String::new, whittle_image::display_size);
    let (small, how) = match seen.outcome() {
        MinimizeOutcome::Applied => (size(told.size), how),
        MinimizeOutcome::TooLittle => ("—".into(), "less than a tenth would go"),
        _ => ("—".into(), "the full one is used"),
    };
    let full = size(told.full_size);
    writeln!(
        table,
        "| {name} | {base} | {about} | {full} | {small} | {how} |"
    )
    .unwrap();
}

fn write(name: &str, table: &str) {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    std::fs::write(target.join(long::file(name)), table).unwrap();
    println!("{table}");
}

#[tokio::test]
async fn images_of_the_truth_table_that_start_start_without_what_they_never_reach() {
    use MinimizeOutcome::{Applied, TooLittle};
    let field = field("minimaltruth").await;
    let rows = truth::that_start();
    let rows = match long::whole() {
        true => rows,
        // Large bases, of which there is something to leave out.
        false => rows
            .into_iter()
            .filter(|row| row.base.starts_with("debian"))
            .take(2)
            .collect(),
    };
    truth::source(&field, &rows).await;
    for row in &rows {
        let mut spec = spec(false);
        spec["target"] = json!(row.name);
        field
            .apply(row.name, json!({"configMap": {"name": "truth"}}), spec)
            .await;
    }
    let seen: Vec<(usize, Seen)> = futures::stream::iter(rows.iter().enumerate())
        .map(async |(at, row)| (at, look(&field, row.name).await))
        .buffered(AT_ONCE)
        .collect()
        .await;
    let mut table = String::from(
        "| image | base | made with | as built | minimized | how |\n|---|---|---|---|---|---|\n",
    );
    let mut wrong = vec![];
    for (at, seen) in &seen {
        let row = &rows[*at];
        wrong.extend(seen.wrong(row.name, &[Applied, TooLittle]));
        line(
            &mut table,
            (row.name, row.base, row.toolchain),
            seen,
            "read",
        );
    }
    write("minimal-truth", &table);
    truth::none_wrong(wrong.into_iter().map(Some).collect::<Vec<_>>().into_iter());
    field.close().await;
}
