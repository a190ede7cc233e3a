//! What the pushed image holds: read from the registry, held to the contract, and reported beside it.

use k8s_openapi::jiff::Timestamp;

use super::finish::{Held, Stored, Trouble};
use super::minimize::Sought;
use crate::contract;
use crate::health::unhealthy;
use crate::request::{BuildRequest, ReportRef};
use whittle_api::ContentsStatus;
use whittle_image::{
    Budget, Contents, Finding, ImageReport, Measured, REPORT_TYPE, judge, normal_platform,
};
use whittle_probe::pack;
use whittle_registry::{Client, attach};

/// Reads each platform's layers, enters what they hold, pushes the reports, and says what of the contract
/// is broken and which health checks cannot work; what the program reaches, where that is `sought`. One platform after the other: each takes up to 64 MiB of memory.
pub(super) async fn hold(
    client: &Client,
    request: &BuildRequest,
    platforms: &mut [Stored],
    sought: Option<&Sought>,
) -> Result<Held, Trouble> {
    let budget = contract::budget(&request.inputs.contract.clone().unwrap_or_default());
    let (mut found, mut checks) = (Vec::new(), Vec::new());
    for stored in platforms {
        let now = Timestamp::now().as_second();
        let layers = &stored.manifest.layers;
        let contents = match sought {
            None => client.contents(layers, &stored.config, now).await?,
            Some(sought) => {
                let image = sought.image(client, stored).await?;
                // The contents first: what is reached may take all the steps that an image's links have.
                let contents = Contents::of(&image, &stored.config, now);
                stored.could = Some(sought.could(&image, stored));
                contents
            }
        };
        checks.extend(unhealthy(&contents, request.inputs.health_command()));
        let findings = weigh(client, request, &budget, stored, &contents).await;
        let mut status = ContentsStatus::of(&contents);
        status.programs = Some(pack(&contents));
        status.report = report(client, request, stored, contents).await;
        stored.status.contents = Some(status);
        found.push((stored.status.platform.clone(), findings));
    }
    Ok(Held {
        breaches: contract::breaches(found),
        unhealthy: checks,
    })
}

/// What a report says of its image, with the programs.
pub(super) async fn fetch(client: &Client, wanted: &ReportRef) -> Result<ContentsStatus, Trouble> {
    let contents = client.report_at(&wanted.report, &wanted.digest).await?;
    let mut status = ContentsStatus::of(&contents);
    status.programs = Some(pack(&contents));
    status.report = Some(wanted.report.clone());
    Ok(status)
}

/// Judges; where it is about size, against what the last good image held.
async fn weigh(
    client: &Client,
    request: &BuildRequest,
    budget: &Budget,
    stored: &Stored,
    contents: &Contents,
) -> Vec<Finding> {
    let status = &stored.status;
    let asked = request
        .inputs
        .platforms
        .iter()
        .any(|platform| normal_platform(&platform.0) == normal_platform(&status.platform))
        .then_some(status.platform.as_str());
    let previous = request
        .previous
        .iter()
        .find(|previous| previous.platform == status.platform && previous.digest != status.digest);
    let image = Measured {
        size: status.size,
        contents: Some(contents),
    };
    let before = |contents| {
        previous.map(|previous| Measured {
            size: previous.size,
            contents,
        })
    };
    let findings = judge(budget, image, asked, before(None));
    let weighs = |finding: &Finding| finding.rule.starts_with("max");
    let Some(previous) = previous.filter(|_| findings.iter().any(weighs)) else {
        return findings;
    };
    // Only now: it costs a few requests, and serves the words alone.
    let report = client.report(&previous.digest).await.ok().flatten();
    judge(budget, image, asked, before(report.as_ref()))
}

/// Pushes the report. A registry that takes none costs the report, and not the build.
async fn report(
    client: &Client,
    request: &BuildRequest,
    stored: &Stored,
    contents: Contents,
) -> Option<String> {
    // A layout goes to whoever asked for it as it is.
    if request.place.layout.is_some() {
        return None;
    }
    let report = ImageReport {
        digest: stored.status.digest.clone(),
        size: stored.status.size,
        contents,
    };
    let bytes = serde_json::to_vec(&report).expect("a report has string keys only");
    match attach(client, &stored.manifest.bytes, REPORT_TYPE, &bytes).await {
        Ok(digest) => Some(digest),
        Err(error) => {
            let said = format!("cannot push the report on the image's contents: {error}");
            request.place.say(&said);
            None
        }
    }
}
