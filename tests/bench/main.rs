//! How long a build takes through Whittle, against bare buildctl on the same daemon, in turns.
//!
//! Five cases: nothing has changed, and one line has; an ImageBuild that is there is asked for another build of the same, without a
//! runner that waits and with one (`spec.standby` of the Builder), and with one after a line has changed. Whittle's time runs from the
//! ImageBuild's creation, or from the request, until its Ready condition arrives by a watch; buildctl's from its start to its end. Both
//! clone the same commit, build for one platform, and push. For the first two it says where Whittle's time goes. It fails where a build
//! by a runner that waits takes longer than [`AIM`].

mod again;
mod at_once;
mod bench;
mod timeline;

use std::time::Duration;

use bench::{Bench, Figures, LIMIT, Result, run};

const NAMESPACE: &str = "demo";

/// How much longer than bare buildctl a build takes by a runner that waits, at most, in seconds: in the median.
const AIM: f64 = 0.4;

#[tokio::main]
async fn main() -> Result<()> {
    let runs = bench::runs();
    let mut bench = Bench::new().await?;
    // Wakes the builder, where that sleeps.
    bench.whittle("warm-up").await?;
    bench.find_builder().await?;
    bench.buildctl()?;
    println!(
        "{:<16} {:>4} {:>22} {:>22} {:>12} {:>8}",
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
    let mut late = vec![];
    // The ImageBuild of `make demo` may have the first place: it is built more often.
    for (case, standby, change) in [
        ("asked again", 0, false),
        ("it waits", 4, false),
        ("it waits, 1 line", 4, true),
    ] {
        bench.standby(standby).await?;
        let again = again::Again::new(&bench).await?;
        let (mut ours, mut bare) = (vec![], vec![]);
        let before = again.by_those_that_waited().await?;
        for run in 0..runs {
            again.is_idle().await?;
            if standby > 0 {
                again.is_waited_for().await?;
            }
            if change {
                bench.change(&format!("whittle again {run}"))?;
            }
            ours.push(again.whittle().await?);
            if change {
                bench.change(&format!("buildctl again {run}"))?;
            }
            bare.push(bench.buildctl()?);
        }
        let waited = again.by_those_that_waited().await? - before;
        again.end().await?;
        let difference = row(case, runs, ours, bare);
        if standby > 0 {
            if waited < u64::try_from(runs)? {
                late.push(format!(
                    "{case}: of {runs} builds {waited} were carried out by a runner that waited"
                ));
            }
            if difference > AIM {
                late.push(format!(
                    "{case}: {difference:.2} s more than buildctl, and not {AIM} s at most"
                ));
            }
        }
    }
    bench.standby(0).await?;
    println!("\nWhere Whittle's time goes, s, medians:");
    for (case, parts) in parts {
        for (part, median) in parts {
            println!("{case:<12} {part:<42} {median:>6.2}");
        }
    }
    println!("\nEach figure: median (minimum to maximum) of the same run, in turns.");
    late.extend(at_once::table(&mut bench, runs.div_ceil(2)).await?);
    match late.is_empty() {
        true => Ok(()),
        false => Err(late.join("; ").into()),
    }
}

/// Prints it: the difference of the medians, in seconds.
fn row(case: &str, runs: usize, ours: Vec<Duration>, bare: Vec<Duration>) -> f64 {
    let (a, b) = (Figures::of(&ours), Figures::of(&bare));
    println!(
        "{case:<12} {runs:>4} {:>22} {:>22} {:>12.2} {:>8.2}",
        a.to_string(),
        b.to_string(),
        a.median - b.median,
        a.median / b.median
    );
    a.median - b.median
}
