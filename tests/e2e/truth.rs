//! The truth table: images of real toolchains, what Whittle says of each, and what happens when it runs in a
//! Pod. Verdict and reality agree in every row.

use std::collections::BTreeMap;
use std::path::Path;

use futures::StreamExt;
use kube::api::DeleteParams;
use whittle_api::ImageBuild;
use whittle_image::Fault;

use crate::field::Field;
use crate::long;

mod builds;
mod pods;
mod rows;
mod table;
mod verdict;

pub use rows::Row;
pub use verdict::contents;

/// Rows that are looked at side by side.
const AT_ONCE: usize = 8;

/// What was seen of a row.
pub struct Seen {
    /// What the image itself comes to.
    pub verdict: verdict::Verdict,
    /// What the status says.
    pub told: verdict::Verdict,
    pub fault: Option<Fault>,
    pub reality: pods::Reality,
}

#[tokio::test]
async fn what_whittle_says_of_an_image_is_what_happens_in_a_pod() {
    let field = Field::new("truth").await;
    let rows = chosen();
    builds::apply(&field, &rows).await;
    let seen: BTreeMap<&str, Seen> = futures::stream::iter(&rows)
        .map(async |row| (row.name, look(&field, row).await))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let all: Vec<(&Row, &Seen)> = rows.iter().map(|row| (row, &seen[row.name])).collect();
    table::write(&all);
    none_wrong(all.iter().map(|(row, seen)| table::wrong(row, seen)));
    field.close().await;
}

/// The images that start, whoever runs them.
pub fn that_start() -> Vec<Row> {
    let starts = |row: &Row| matches!(row.claim, rows::Claim::Starts);
    rows::all().into_iter().filter(starts).collect()
}

/// The ConfigMap that these rows are built from.
pub async fn source(field: &Field, rows: &[Row]) {
    builds::source(field, rows).await;
}

/// Fails where something is wrong with a row.
pub fn none_wrong(rows: impl ExactSizeIterator<Item = Option<String>>) {
    let count = rows.len();
    let wrong: Vec<String> = rows.flatten().collect();
    assert!(
        wrong.is_empty(),
        "{} of {count} rows:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// All rows or a sample, or those that the variable ROWS names, parted by commas.
fn chosen() -> Vec<Row> {
    let Some(only) = std::env::var("ROWS").ok().filter(|only| !only.is_empty()) else {
        return long::sample(rows::all(), |row| (row.base, table::author(row.claim)));
    };
    let wanted = |row: &Row| only.split(',').any(|name| name == row.name);
    rows::all().into_iter().filter(wanted).collect()
}

async fn look(field: &Field, row: &Row) -> Seen {
    let status = builds::ended(field, row).await;
    let (image, told) = verdict::of_status(row, &status);
    let (contents, reality) =
        tokio::join!(verdict::contents(&image), pods::run(field, row, &image));
    // With it goes the Pod of its runner.
    let builds = field.api::<ImageBuild>();
    let gone = builds.delete(row.name, &DeleteParams::background()).await;
    gone.unwrap();
    Seen {
        verdict: verdict::judge(row, &contents),
        told,
        fault: verdict::fault(&contents),
        reality,
    }
}

#[test]
fn every_row_has_a_name_of_its_own_and_stands_in_the_docs() {
    let rows = rows::all();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/truth.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let mut names: Vec<&str> = rows.iter().map(|row| row.name).collect();
    for row in &rows {
        let begin = format!(
            "| {} | {} | {} | {} |",
            row.name,
            row.base,
            row.toolchain,
            table::author(row.claim)
        );
        assert!(
            docs.contains(&begin),
            "docs/truth.md lacks {begin}: run `make test-long` and copy target/truth.md there"
        );
    }
    assert!(names.len() >= 40);
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
}
