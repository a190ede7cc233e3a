//! Which ImageBuilds are meant: by name, by label, of a namespace or of all.

use kube::api::ListParams;
use kube::{Api, ResourceExt};
use whittle_api::ImageBuild;

use crate::complete;

use super::answer::{self, Failed};
use super::{Cluster, Reach};

/// ImageBuilds read at a time: a list of thousands is read in pages.
const PAGE: u32 = 500;

/// Names, or what selects.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Selection {
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// ImageBuilds, by name.
    #[arg(value_name = "NAME", add = complete::builds())]
    pub(crate) names: Vec<String>,
    /// Those with these labels, as kubectl takes them: app=shop,tier!=test.
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with = "names")]
    pub(crate) selector: Option<String>,
    /// Those of all namespaces.
    #[arg(short = 'A', long, conflicts_with_all = ["names", "namespace"])]
    pub(crate) all_namespaces: bool,
}

impl Selection {
    /// All that are meant, by namespace and name. Where nothing selects: all of the namespace.
    pub(crate) async fn builds(&self, cluster: &Cluster) -> Result<Vec<ImageBuild>, Failed> {
        let mut found = vec![];
        if !self.names.is_empty() {
            for name in &self.names {
                let name = name
                    .rsplit_once('/')
                    .map_or(name.as_str(), |(_, name)| name);
                found.push(cluster.build(name).await?);
            }
            return Ok(found);
        }
        let api: Api<ImageBuild> = match self.all_namespaces {
            true => Api::all(cluster.client.clone()),
            false => cluster.builds(),
        };
        let mut pages = ListParams::default().limit(PAGE);
        pages.label_selector.clone_from(&self.selector);
        loop {
            let page = api.list(&pages).await;
            let page = page.map_err(|error| answer::api(&error, "ImageBuilds"))?;
            found.extend(page.items);
            match page.metadata.continue_.filter(|it| !it.is_empty()) {
                Some(next) => pages.continue_token = Some(next),
                None => break,
            }
        }
        found.sort_by_key(|it| (it.namespace(), it.name_any()));
        Ok(found)
    }

    /// Those that a command that changes something is for: never all because none was named.
    pub(crate) async fn chosen(&self, cluster: &Cluster) -> Result<Vec<ImageBuild>, Failed> {
        if self.names.is_empty() && self.selector.is_none() {
            let text = "no ImageBuild is named: give a NAME, or -l LABELS for all with these";
            return Err(Failed::Use(text.into()));
        }
        let found = self.builds(cluster).await?;
        match found.is_empty() {
            true => Err(Failed::Refused(format!(
                "no ImageBuild has the labels {}: see `whittle status -A`",
                self.selector.as_deref().unwrap_or_default()
            ))),
            false => Ok(found),
        }
    }
}
