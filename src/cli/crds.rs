//! The CustomResourceDefinitions as files: `crds/` and the chart's copies of them.

use std::path::{Path, PathBuf};

/// What keeps a file from being written.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("the CustomResourceDefinition {name} cannot be written as YAML: {source}")]
    Yaml {
        name: String,
        source: serde_saphyr::ser::Error,
    },
    #[error("{} cannot be written: {source}", path.display())]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
}

/// The name and the text of each file: whittle.dev_PLURAL.yaml.
pub fn files() -> Result<Vec<(String, String)>, Error> {
    (whittle_api::crds().into_iter())
        .map(|crd| {
            let name = format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural);
            let text = serde_saphyr::to_string(&crd).map_err(|source| Error::Yaml {
                name: crd.spec.names.kind.clone(),
                source,
            })?;
            Ok((name, format!("{}\n", text.trim_end())))
        })
        .collect()
}

/// Writes the files into a folder, which is made if it is missing.
pub fn write(directory: &Path) -> Result<(), Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { path, source }
    };
    std::fs::create_dir_all(directory).map_err(failed(directory))?;
    for (name, text) in files()? {
        let path = directory.join(name);
        std::fs::write(&path, text).map_err(failed(&path))?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "crds_tests.rs"]
mod tests;
