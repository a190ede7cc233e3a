//! Stub, to be replaced.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
pub struct View<'a> {
    pub dockerfile_path: &'a str,
    pub dockerfile: &'a str,
    pub target: Option<&'a str>,
    pub build_args: &'a BTreeMap<String, String>,
    pub files: &'a [ContextFile],
    pub warnings: &'a [BuildWarning],
}
#[derive(Debug, Clone)]
pub struct ContextFile {
    pub path: String,
    pub head: Vec<u8>,
}
pub struct BuildWarning {
    pub text: String,
    pub line: Option<i32>,
    pub url: Option<String>,
}
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum HintKind {
    X,
}
impl HintKind {
    pub fn as_str(self) -> &'static str {
        "X"
    }
}
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
pub struct Hint {
    pub kind: HintKind,
    pub line: Option<i32>,
    pub message: String,
}
pub fn advise(_: &View) -> Vec<Hint> {
    vec![]
}
pub const CANDIDATES: &[&str] = &["**/.en[v]"];
pub fn is_candidate(path: &str) -> bool {
    path.ends_with(".env")
}
pub fn kept<'a>(_: &str, paths: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    paths.collect()
}
pub fn lines(hints: &[Hint]) -> Vec<String> {
    hints.iter().map(|h| h.message.clone()).collect()
}
