//! Which instruction made which layer, from the history in an image's config
//! (<https://github.com/opencontainers/image-spec/blob/main/config.md#properties>, `history`).

use serde::Deserialize;

use super::{Layer, ManifestError};
use crate::api::{LayerStatus, bounded};

/// Bytes of an instruction, at most.
const INSTRUCTION_BYTES: usize = 160;

/// The layers with their instructions, from the first to the last. `config` are the bytes of the
/// image's config. Where its history does not fit the layers, the instructions are empty.
pub fn layers(layers: &[Layer], config: &[u8]) -> Result<Vec<LayerStatus>, ManifestError> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        history: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        created_by: String,
        #[serde(default)]
        empty_layer: bool,
    }
    let config: Config = serde_json::from_slice(config)?;
    let made: Vec<&str> = config
        .history
        .iter()
        .filter(|entry| !entry.empty_layer)
        .map(|entry| entry.created_by.as_str())
        .collect();
    let fits = made.len() == layers.len();
    Ok(layers
        .iter()
        .enumerate()
        .map(|(at, layer)| LayerStatus {
            size: layer.size,
            instruction: if fits {
                instruction(made[at])
            } else {
                String::new()
            },
        })
        .collect())
}

/// The instruction as people write it: without BuildKit's comment at its end, without the shell that
/// runs it, and without the mark of the old builder.
fn instruction(created_by: &str) -> String {
    let text = created_by.trim();
    let text = text.strip_suffix("# buildkit").unwrap_or(text).trim_end();
    let words = match text.split_once("/bin/sh -c ") {
        Some((before, rest)) => match rest.trim_start().strip_prefix("#(nop)") {
            Some(instruction) => instruction.trim().to_owned(),
            // `RUN |1 VERSION=1 /bin/sh -c go build`: arguments and their number stand before the shell.
            None if before.starts_with("RUN ") || before.is_empty() => format!("RUN {rest}"),
            None => text.to_owned(),
        },
        None => text.to_owned(),
    };
    bounded(
        words.split_whitespace().collect::<Vec<_>>().join(" "),
        INSTRUCTION_BYTES,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(size: i64) -> Layer {
        Layer {
            digest: format!("sha256:{size}"),
            size,
            title: None,
        }
    }

    #[test]
    fn each_layer_has_the_instruction_that_made_it() {
        let config = br#"{"history":[
            {"created_by":"ARG VERSION","empty_layer":true},
            {"created_by":"COPY /hello /hello # buildkit"},
            {"created_by":"RUN |1 VERSION=1 /bin/sh -c go build   -o /x # buildkit"},
            {"created_by":"USER 65532","empty_layer":true}]}"#;
        let found = layers(&[layer(10), layer(20)], config).unwrap();
        assert_eq!(found[0].instruction, "COPY /hello /hello");
        assert_eq!(found[1].instruction, "RUN go build -o /x");
        assert_eq!(found[1].size, 20);
    }

    #[test]
    fn where_history_and_layers_differ_in_number_nothing_is_guessed() {
        let config = br#"{"history":[{"created_by":"COPY a /a"}]}"#;
        let found = layers(&[layer(1), layer(2)], config).unwrap();
        assert!(found.iter().all(|layer| layer.instruction.is_empty()));
        assert_eq!(layers(&[layer(1)], b"{}").unwrap()[0].instruction, "");
        assert!(layers(&[], b"not json").is_err());
    }

    #[test]
    fn instructions_read_as_people_write_them() {
        for (made, read) in [
            ("/bin/sh -c #(nop) ADD file:1 in / ", "ADD file:1 in /"),
            ("/bin/sh -c apt-get update", "RUN apt-get update"),
            ("RUN /bin/sh -c make # buildkit", "RUN make"),
            ("WORKDIR /src", "WORKDIR /src"),
            ("bazel build ...", "bazel build ..."),
        ] {
            assert_eq!(instruction(made), read);
        }
    }
}
