//! The samples of `config/samples`, applied as a newcomer applies them: each is built, runs, shows what it is
//! there to show, and is built again after a change of one line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::ResourceExt;
use kube::api::ListParams;
use whittle_api::{ImageBuild, ImageBuildStatus, find};

use crate::field::{Field, registry};

mod changes;
pub mod failing;
mod pods;
mod rows;
mod table;

/// How long all samples may take together, on two slow processors that other tests use as well.
const PATIENCE: Duration = Duration::from_secs(1500);

/// Pods of samples that run side by side: they mostly wait.
const PODS: usize = 6;

#[tokio::test]
async fn every_sample_is_built_runs_and_is_built_again_after_a_change_of_one_line() {
    let mut field = Field::new("samples").await;
    // One of them compiles a standard library and pushes 200 MB, beside other tables.
    field.patience = 2 * crate::field::PATIENCE;
    apply(&field, "config/samples");
    let names: Vec<&str> = table::SAMPLES.iter().map(|sample| sample.name).collect();
    let cold = all_ready(&field, &names).await;
    futures::stream::iter(table::SAMPLES)
        .for_each_concurrent(PODS, async |sample| {
            rows::stands_in_the_registry(&field, sample.name, &cold[sample.name]).await;
            pods::run(&field, sample.name, &cold[sample.name], sample.does).await;
        })
        .await;
    rows::check(&field, &cold).await;
    let changed = changes::one_by_one(&field, &cold).await;
    table::write(&cold, &changed);
    changes::without_the_builder(&field).await;
    field.close().await;
}

#[tokio::test]
async fn what_goes_wrong_in_the_failing_samples_is_told() {
    let field = Field::new("failing").await;
    apply(&field, "config/samples/failing");
    failing::check(&field).await;
    field.close().await;
}

/// The root of the checkout.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// `kubectl apply -k` of an overlay, as docs/samples.md has it: its images go to repositories of this field.
fn apply(field: &Field, samples: &str) {
    let overlay = root().join("target/samples").join(&field.namespace);
    std::fs::create_dir_all(&overlay).unwrap();
    let text = format!(
        "resources: [../../../{samples}]\nreplacements:\n  - sourceValue: {}\n    targets:\n      - select: {{kind: ImageBuild}}\n        \
         fieldPaths: [spec.output.image]\n        options: {{delimiter: /, index: 1}}\n",
        field.namespace
    );
    std::fs::write(overlay.join("kustomization.yaml"), text).unwrap();
    kubectl(field, &["apply", "-k", &overlay.display().to_string()]);
    std::fs::remove_dir_all(&overlay).unwrap();
}

/// What a kubectl command prints; it must succeed.
fn kubectl(field: &Field, arguments: &[&str]) -> String {
    let output = Command::new("kubectl")
        .args(["--namespace", &field.namespace])
        .args(arguments)
        .output()
        .expect("kubectl is on the PATH: run `make test-e2e`");
    assert!(
        output.status.success(),
        "kubectl {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The repository that a sample is pushed to.
fn image(field: &Field, name: &str) -> String {
    format!("{}/{}/{name}", registry(), field.namespace)
}

/// The status of each, once all are Ready: these and no others.
async fn all_ready(field: &Field, names: &[&str]) -> BTreeMap<String, ImageBuildStatus> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let builds = field
            .api::<ImageBuild>()
            .list(&ListParams::default())
            .await
            .unwrap();
        let mut found: Vec<String> = builds.iter().map(ResourceExt::name_any).collect();
        found.sort();
        let mut wanted = names.to_vec();
        wanted.sort_unstable();
        assert_eq!(
            found, wanted,
            "the samples and the table in tests/e2e/all_samples/table.rs differ"
        );
        let mut ready = BTreeMap::new();
        let mut waiting = vec![];
        for build in builds {
            let name = build.name_any();
            let status = build.status.unwrap_or_default();
            assert!(
                find(&status.conditions, "Stalled").is_none(),
                "{name}: {:#?}",
                status.failure
            );
            match find(&status.conditions, "Ready").filter(|c| c.status == "True") {
                Some(_) => _ = ready.insert(name, status),
                None => waiting.push(format!("{name}: {:?}", status.current)),
            }
        }
        if waiting.is_empty() {
            return ready;
        }
        assert!(
            Instant::now() < deadline,
            "not Ready within {PATIENCE:?}: {waiting:#?}"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// A file of the samples.
fn read(path: impl AsRef<Path>) -> String {
    let path = root().join("config/samples").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
