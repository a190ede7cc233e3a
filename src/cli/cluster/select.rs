//! Which ImageBuilds are meant: by name, by label, of a namespace or of all.

use kube::api::ListParams;
use kube::{Api, ResourceExt};
use whittle_api::ImageBuild;

use crate::complete;

use super::answer::{self, Failed};
use super::{Cluster, Reach};

/// ImageBuilds read at a time: a list of thousands is read in pages.
const PAGE: u32 = 500;

/// How kubectl names the kind before a name.
const KINDS: [&str; 4] = [
    "imagebuild.whittle.dev",
    "imagebuilds.whittle.dev",
    "imagebuilds",
    "imagebuild",
];

/// The namespace that stands before a name, and the name.
fn read(text: &str) -> (Option<&str>, &str) {
    match text.split_once('/') {
        Some((kind, name)) if KINDS.contains(&kind) => (None, name),
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, text),
    }
}

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
            for (of, name) in self.named(cluster)? {
                found.push(of.build(&name).await?);
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

    /// Those that are named, each with its namespace: NAMESPACE/NAME, as lists print them, or as `kubectl -o name` does.
    pub(crate) fn named(&self, cluster: &Cluster) -> Result<Vec<(Cluster, String)>, Failed> {
        let read = self.names.iter().map(|text| {
            let (namespace, name) = read(text);
            let asked = self.reach.namespace.as_deref();
            if let (Some(namespace), Some(asked)) = (namespace, asked)
                && namespace != asked
            {
                let text = format!("{text} is in namespace {namespace}, and --namespace says {asked}: give one of them");
                return Err(Failed::Use(text));
            }
            let mut cluster = cluster.clone();
            if let Some(namespace) = namespace {
                namespace.clone_into(&mut cluster.namespace);
            }
            Ok((cluster, name.to_owned()))
        });
        read.collect()
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

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn what_stands_before_a_name_is_its_kind_or_its_namespace() {
        assert_eq!(read("hello"), (None, "hello"));
        assert_eq!(read("imagebuild.whittle.dev/hello"), (None, "hello"));
        assert_eq!(read("shop/hello"), (Some("shop"), "hello"));
    }
}
