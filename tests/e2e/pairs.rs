//! The truth table of probes: images and probes on them, what Whittle says of each pair, what the guard says,
//! and what the kubelet does. They agree in every pair.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::PodSpec;
use whittle_probe::{Images, Known, Verdict, judge};

use crate::field::Field;
use crate::guard::{allow_in, deny_in};
use crate::long;
use crate::truth::none_wrong;

mod guard;
mod images;
mod pods;
mod rows;
mod table;
mod view;

use images::Image;
use rows::{Hook, Reality, Row};

/// Pods at a time.
const AT_ONCE: usize = 24;
/// How long all images may take, on two slow processors that other tests use as well.
const LONG: Duration = Duration::from_secs(1500);

/// What was seen of a pair.
pub struct Seen {
    pub verdict: Verdict,
    pub message: String,
    /// What the guard says where it refuses.
    pub refusal: Option<String>,
    /// None where nothing could be seen.
    pub reality: Option<Reality>,
    /// The kubelet's own.
    pub words: String,
}

#[tokio::test]
async fn what_whittle_says_of_a_probe_is_what_the_kubelet_does() {
    let rows = chosen();
    let field = Field::new("pairs").await;
    deny_in(&field).await;
    let begin = Instant::now();
    let names: Vec<&'static str> = (images::NAMES.into_iter())
        .filter(|name| rows.iter().any(|row| row.image == *name))
        .collect();
    let images = images::build(&field, &names).await;
    println!("{} images after {:?}", images.len(), begin.elapsed());
    let mut refusals = vec![];
    for row in &rows {
        let image = &images[row.image].reference;
        refusals.push(guard::answer(&field, image, &row.spec(image)).await);
    }
    allow_in(&field).await;
    if let Some(row) = rows.iter().find(|row| row.refused) {
        let image = &images[row.image].reference;
        guard::takes(&field, &row.spec(image)).await;
    }
    println!("{} answers after {:?}", refusals.len(), begin.elapsed());
    let view = view::View::of(&field).await;
    let realities: BTreeMap<usize, (Option<Reality>, String)> =
        futures::stream::iter(in_order(&rows))
            .map(async |(number, row)| {
                let image = &images[row.image].reference;
                (
                    number,
                    pods::run(&field, &view, row, number, row.spec(image)).await,
                )
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
    println!("{} Pods after {:?}", realities.len(), begin.elapsed());
    let seen: Vec<Seen> = (rows.iter().zip(refusals).zip(realities.into_values()))
        .map(|((row, refusal), (reality, words))| {
            let (verdict, message) = verdict(row, &images[row.image]);
            Seen {
                verdict,
                message,
                refusal,
                reality,
                words,
            }
        })
        .collect();
    let all: Vec<(&Row, &Seen)> = rows.iter().zip(&seen).collect();
    table::write(&all);
    none_wrong(all.iter().map(|(row, seen)| table::wrong(row, seen)));
    field.close().await;
}

/// Hooks of the end first: what is seen of them needs Pods that come later.
fn in_order(rows: &[Row]) -> Vec<(usize, &Row)> {
    let mut all: Vec<(usize, &Row)> = rows.iter().enumerate().collect();
    all.sort_by_key(|(_, row)| row.hook != Hook::PreStop);
    all
}

/// All pairs or a sample, or those whose text has what the variable PAIRS says.
fn chosen() -> Vec<Row> {
    let Some(only) = std::env::var("PAIRS").ok().filter(|only| !only.is_empty()) else {
        return long::sample(rows::all(), |row| {
            (row.image, row.hook.field(), format!("{:?}", row.expect))
        });
    };
    let text = |row: &Row| {
        format!(
            "{} {} {} {}",
            row.image,
            row.hook.field(),
            row.does(),
            row.notes.join(" ")
        )
    };
    let mut rows = rows::all();
    rows.retain(|row| text(row).contains(&only));
    rows
}

/// What Whittle says of the probe in a Pod's spec.
fn verdict(row: &Row, image: &Image) -> (Verdict, String) {
    struct One<'i>(&'i Image);
    impl Images for One<'_> {
        fn of(&self, _: &str) -> Known<'_> {
            Known {
                contents: vec![&self.0.contents],
                ..Known::default()
            }
        }
    }
    let spec: PodSpec = serde_json::from_value(row.spec(&image.reference)).unwrap();
    let mut findings = judge(&spec, &One(image)).findings;
    findings.retain(|it| it.container == "main" && it.hook.field().ends_with(row.hook.field()));
    let [finding] = findings.try_into().unwrap();
    (finding.verdict, finding.message)
}

/// Looks until there is an answer; at the end of patience, what there was none of.
async fn until<T>(
    what: &str,
    patience: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> Result<T, String> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = look().await {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            return Err(format!("not within {patience:?}: {what}"));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[test]
fn there_are_sixty_pairs_no_two_are_the_same_and_they_stand_in_the_docs() {
    let rows = rows::all();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/probe-truth.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    for row in &rows {
        let begin = table::author(row);
        assert!(
            docs.contains(&begin),
            "docs/probe-truth.md lacks {begin}: run `make test-long` and copy target/pairs.md there"
        );
    }
    let mut all: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {}", row.image, row.spec("image")))
        .collect();
    assert!(all.len() >= 60);
    all.sort_unstable();
    let count = all.len();
    all.dedup();
    assert_eq!(all.len(), count);
}
