//! How long a build takes through Whittle, against bare buildctl on the same daemon, in turns.
//!
//! Four cases: nothing has changed, and one line has; an ImageBuild that is there is asked for another build of the same, without a
//! runner that waits and with one (`spec.standby` of the Builder). Whittle's time runs from the ImageBuild's creation
//! until its Ready condition arrives by a watch; buildctl's from its start to its end. Both clone the
//! same commit, build for one platform, and push. For each case it says where Whittle's time goes.

mod again;
mod at_once;
mod bench;
mod timeline;

use std::time::Duration;

use bench::{Bench, Figures, LIMIT, Result, run};

const NAMESPACE: &str = "demo";

#[tokio::main]
async fn main() -> Result<()> {
    let runs = bench::runs();
    let mut bench = Bench::new().await?;
    // Wakes the builder, where that sleeps.
    bench.whittle("warm-up").await?;
    bench.find_builder().await?;
    bench.buildctl()?;
    println!(
        "{:<12} {:>4} {:>22} {:>22} {:>12} {:>8}",
        "case", "runs", "whittle, s", "buildctl, s", "difference", "ratio"
    );
    let mut parts = vec![];
    for (case, change) in [("unchanged", false), ("one line", true)] {
        let (mut ours, mut bare, mut lines) = (vec![], vec![], vec![]);
        for run in 0..runs {
            if change {
                bench.change(&format!("whittle {run}"))?;
            }
            let name = format!("{}-{run}", case.replace(' ', "-"));
            let line = bench.whittle(&name).await?;
            ours.push(line.ready);
            lines.push(line);
            if change {
                bench.change(&format!("buildctl {run}"))?;
            }
            bare.push(bench.buildctl()?);
        }
        row(case, runs, ours, bare);
        parts.push((case, timeline::parts(&lines)));
    }
    for (case, standby) in [("asked again", 0), ("it waits", 1)] {
        bench.standby(standby).await?;
        let again = again::Again::new(&bench).await?;
        let (mut ours, mut bare) = (vec![], vec![]);
        let before = again.by_those_that_waited().await?;
        for _ in 0..runs {
            again.is_idle().await?;
            if standby > 0 {
                again.is_waited_for().await?;
            }
            ours.push(again.whittle().await?);
            bare.push(bench.buildctl()?);
        }
        let waited = again.by_those_that_waited().await? - before;
        again.end().await?;
        if standby > 0 && waited < u64::try_from(runs)? {
            println!("{case}: of {runs} builds {waited} were carried out by a runner that waited");
        }
        row(case, runs, ours, bare);
    }
    bench.standby(0).await?;
    println!("\nWhere Whittle's time goes, s, medians:");
    for (case, parts) in parts {
        for (part, median) in parts {
            println!("{case:<12} {part:<42} {median:>6.2}");
        }
    }
    println!("\nEach figure: median (minimum to maximum) of the same run, in turns.");
    at_once::table(&bench, runs.div_ceil(2)).await
}

fn row(case: &str, runs: usize, ours: Vec<Duration>, bare: Vec<Duration>) {
    let (a, b) = (Figures::of(&ours), Figures::of(&bare));
    println!(
        "{case:<12} {runs:>4} {:>22} {:>22} {:>12.2} {:>8.2}",
        a.to_string(),
        b.to_string(),
        a.median - b.median,
        a.median / b.median
    );
}
