//! `whittle history`: the builds of the past.

use k8s_openapi::jiff::Timestamp;
use whittle_api::HistoryEntry;
use whittle_image::display_size;

use super::Reach;
use super::answer::Failed;
use super::screen::{ago, span, tame};
use super::{table, written};

/// What `history` is asked for.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    reach: Reach,
    /// The ImageBuild.
    #[arg(value_name = "NAME", add = crate::complete::builds())]
    name: String,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Output {
    /// A table, the newest build first.
    #[default]
    Table,
    /// `status.history` as JSON.
    Json,
    /// `status.history` as YAML.
    Yaml,
}

/// Prints it.
pub(super) async fn run(options: &Options) -> Result<(), Failed> {
    let cluster = options.reach.cluster().await?;
    let build = cluster.build(&options.name).await?;
    let limit = build.spec.history_limit;
    let history = build.status.map(|it| it.history).unwrap_or_default();
    let text = match options.output {
        Output::Json => written::json(&history)?,
        Output::Yaml => written::yaml(&history)?,
        Output::Table if history.is_empty() && limit == 0 => {
            "No history is kept: `spec.historyLimit` is 0.\n".into()
        }
        Output::Table if history.is_empty() => "No build has ended yet.\n".into(),
        Output::Table => text(&history, Timestamp::now()),
    };
    anstream::print!("{text}");
    Ok(())
}

fn text(history: &[HistoryEntry], now: Timestamp) -> String {
    let rows: Vec<Vec<String>> = history
        .iter()
        .map(|it| {
            let result = match (it.rolled_back_to, it.unchanged) {
                (Some(to), _) => format!("{}, back to {to}", it.result),
                (None, true) => format!("{}, unchanged", it.result),
                (None, false) => it.result.clone(),
            };
            vec![
                it.build.to_string(),
                result,
                it.completed_at
                    .as_ref()
                    .map(|at| ago(at.0, now))
                    .unwrap_or_default(),
                it.duration_seconds.map(span).unwrap_or_default(),
                it.size.map(display_size).unwrap_or_default(),
                it.trigger.map(|it| format!("{it:?}")).unwrap_or_default(),
                tame(it.revision.as_deref().unwrap_or_default()),
                it.digest.clone().unwrap_or_default(),
            ]
        })
        .collect();
    table::text(
        &[
            "BUILD", "RESULT", "ENDED", "TOOK", "SIZE", "TRIGGER", "REVISION", "DIGEST",
        ],
        &rows,
    )
}
