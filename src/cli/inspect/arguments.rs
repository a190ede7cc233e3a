//! The command line of `whittle inspect`.

use std::path::PathBuf;

use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::{Options, Output, Platforms};
use whittle_image::{Budget, Rule};

/// What can be typed.
pub(crate) const EXAMPLES: &str = "Examples:\n  \
    whittle inspect registry.example.com/team/app:1.2\n  \
    whittle inspect --enforce NonRoot,NoShell --max-size 20Mi ./image.tar\n  \
    whittle inspect registry.example.com/team/app:1.2 --diff :1.3\n  \
    whittle inspect registry.example.com/team/app:1.2 -o html > app.html\n  \
    whittle inspect registry.example.com/team/app:1.2 --tree";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// host/repository[:tag][@digest]; or a path that starts with / or . : an OCI layout (a directory or a tar archive),
    /// or what `docker save` writes. oci:PATH[:tag] and docker-archive:PATH[:name:tag] say which. docker-daemon:NAME and
    /// podman:NAME are images of Docker and Podman on this machine.
    image: String,
    /// The platform: os/architecture[/variant]. Without it: linux on this machine's architecture, or the only
    /// one there is.
    #[arg(long, value_parser = crate::platform)]
    platform: Option<String>,
    /// All platforms of an index.
    #[arg(long, conflicts_with = "platform")]
    all_platforms: bool,
    /// Compare with this image: what is added, removed and changed from IMAGE to it. :tag and sha256:… mean another
    /// image of the same repository.
    #[arg(long, value_name = "IMAGE", conflicts_with_all = ["all_platforms", "enforce", "warn", "max_size", "against"])]
    diff: Option<String>,
    /// With --diff: exit with 1 if the images differ.
    #[arg(long, requires = "diff")]
    exit_code: bool,
    /// Walk through layers and files on the terminal.
    #[arg(long, conflicts_with_all = ["all_platforms", "diff", "output", "enforce", "warn", "max_size", "against"])]
    tree: bool,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
    /// Rules that must be kept, separated by commas. RunnableEntrypoint and PlatformMatches must be kept too
    /// once there is a contract, unless --warn names them.
    #[arg(long, value_name = "RULE", value_delimiter = ',', value_parser = rules())]
    enforce: Vec<Rule>,
    /// Rules that are reported when broken, without failing.
    #[arg(long, value_name = "RULE", value_delimiter = ',', value_parser = rules())]
    warn: Vec<Rule>,
    /// Bytes as stored in the registry, at most: 20Mi.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<i64>,
    /// The image that --max-growth-percent compares with.
    #[arg(long, value_name = "IMAGE", requires = "max_growth_percent")]
    against: Option<String>,
    /// Growth against the other image, in percent of its size, at most.
    #[arg(long, value_name = "N", requires = "against", value_parser = clap::value_parser!(i64).range(0..))]
    max_growth_percent: Option<i64>,
    /// Use HTTP without TLS; registries on this machine always use it.
    #[arg(long)]
    plain_http: bool,
    /// File with additional CA certificates (PEM) for the registry.
    #[arg(long, value_name = "FILE", conflicts_with = "plain_http")]
    ca: Option<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy, Debug, Default)]
enum Form {
    /// A table.
    #[default]
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// A page for a browser: maps of the bytes by folder and by layer, contents, rules, largest files. It loads nothing.
    Html,
}

fn rules() -> impl TypedValueParser<Value = Rule> {
    PossibleValuesParser::new(Rule::ALL.map(Rule::name))
        .map(|name| Rule::named(&name).expect("the name of a rule"))
}

fn size(text: &str) -> Result<i64, String> {
    whittle_api::quantity::bytes(text)
        .and_then(|bytes| i64::try_from(bytes).ok())
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "invalid quantity: write one over 0, for example 20Mi".into())
}

impl Arguments {
    /// What they come to; what is wrong with them together.
    pub(crate) fn options(self) -> Result<Options, String> {
        let html = matches!(self.output, Form::Html);
        if html && self.all_platforms {
            return Err(
                "--output html shows one platform: use --platform instead of --all-platforms"
                    .into(),
            );
        }
        if html && self.diff.is_some() {
            return Err("--output html shows one image: --diff prints table, json or yaml".into());
        }
        Ok(Options {
            image: self.image,
            against: self.against,
            diff: self.diff,
            exit_code: self.exit_code,
            tree: self.tree,
            platforms: match self.platform {
                Some(platform) => Platforms::One(platform),
                None if self.all_platforms => Platforms::All,
                None => Platforms::Default,
            },
            budget: Budget {
                max_size: self.max_size,
                max_growth_percent: self.max_growth_percent,
                enforce: self.enforce,
                warn: self.warn,
            },
            output: match self.output {
                Form::Table => Output::Table,
                Form::Json => Output::Json,
                Form::Yaml => Output::Yaml,
                Form::Html => Output::Html,
            },
            plain_http: self.plain_http,
            ca: self.ca,
        })
    }
}
