//! Whose word counts for whose workloads, where several ImageBuilds claim one reference.
//!
//! In a namespace its own ImageBuilds speak. Elsewhere speak those of namespaces that the installation trusts with
//! the repository, and where none of these claims the reference, all others: they warn, and refuse nothing. Of
//! several at the same level that do not agree none speaks; so nobody takes away from another namespace what its
//! own ImageBuilds say there.

use std::collections::{BTreeMap, HashMap};

use super::profile::Profiled;
use super::trust::canonical_repository;

/// Audience: every namespace without a word of its own; workloads may be refused.
pub(super) const EVERYWHERE: &str = "*";
/// Audience: every namespace without a word of its own; workloads are warned of.
pub(super) const ELSEWHERE: &str = "?";

/// Namespaces that may claim one reference before nothing is said of it to others: each takes room where that is
/// said.
const NAMESPACES: usize = 32;

/// What one ImageBuild says of one reference.
#[derive(Clone, Copy)]
struct Claim {
    build: usize,
    /// None: what it has now. Else which of its earlier ones.
    earlier: Option<usize>,
}

/// Who speaks: an ImageBuild by its number, and which of its images; `None` where those that could do not agree.
pub(super) type Word = Option<(usize, Option<usize>)>;

/// Every reference, in its canonical form, with its audiences in order.
pub(super) struct Words {
    pub(super) all: HashMap<String, Vec<(String, Word)>>,
    /// ImageBuilds that are not agreed with: a reference, and the other ImageBuild where it is of the same namespace.
    pub(super) disputes: BTreeMap<usize, (String, Option<usize>)>,
}

/// `host/path:tag` or `host/path@digest`, from `:tag` or `@digest`.
fn reference(repository: &str, version: &str) -> String {
    format!("{repository}{version}")
}

pub(super) fn words(builds: &[Profiled]) -> Words {
    let mut claims: Vec<(String, Claim)> = vec![];
    for (number, build) in builds.iter().enumerate() {
        let repository = canonical_repository(&build.repository);
        for version in &build.versions {
            let claim = Claim {
                build: number,
                earlier: None,
            };
            claims.push((reference(&repository, version), claim));
        }
        for (at, earlier) in build.earlier.iter().enumerate() {
            if !build.versions.contains(&earlier.version) {
                let claim = Claim {
                    build: number,
                    earlier: Some(at),
                };
                claims.push((reference(&repository, &earlier.version), claim));
            }
        }
    }
    // Those of an ImageBuild stay in order.
    claims.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut words = Words {
        all: HashMap::new(),
        disputes: BTreeMap::new(),
    };
    for of_one in claims.chunk_by(|(one, _), (other, _)| one == other) {
        let name = &of_one[0].0;
        let claims: Vec<Claim> = of_one.iter().map(|(_, claim)| *claim).collect();
        let audiences = audiences(builds, name, &claims, &mut words.disputes);
        words.all.insert(name.clone(), audiences);
    }
    words
}

fn audiences(
    builds: &[Profiled],
    name: &str,
    claims: &[Claim],
    disputes: &mut BTreeMap<usize, (String, Option<usize>)>,
) -> Vec<(String, Word)> {
    let mut by_namespace: BTreeMap<&str, Vec<Claim>> = BTreeMap::new();
    for claim in claims {
        by_namespace
            .entry(builds[claim.build].namespace())
            .or_default()
            .push(*claim);
    }
    let mut said = Vec::with_capacity(by_namespace.len() + 1);
    for (namespace, claims) in &by_namespace {
        let word = agreed(builds, name, claims);
        if word.is_none() {
            for claim in claims {
                let other = claims.iter().find(|other| other.build != claim.build);
                let other = other.map(|other| other.build);
                disputes.insert(claim.build, (name.to_owned(), other));
            }
        }
        said.push(((*namespace).to_owned(), word));
    }
    let trusted: Vec<Claim> = claims
        .iter()
        .copied()
        .filter(|claim| builds[claim.build].trusted)
        .collect();
    let (audience, speakers) = match trusted.is_empty() {
        true => (ELSEWHERE, claims),
        false => (EVERYWHERE, trusted.as_slice()),
    };
    let few = audience == EVERYWHERE || by_namespace.len() <= NAMESPACES;
    let word = agreed(builds, name, speakers);
    if word.is_none() {
        for claim in speakers {
            let of_others = speakers
                .iter()
                .any(|other| builds[other.build].namespace() != builds[claim.build].namespace());
            if of_others {
                disputes
                    .entry(claim.build)
                    .or_insert_with(|| (name.to_owned(), None));
            }
        }
    }
    said.push((audience.to_owned(), word.filter(|_| few)));
    said.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    said
}

/// The first of claims that say the same. Of a digest nothing else can be said by one who knows nothing of it.
fn agreed(builds: &[Profiled], name: &str, claims: &[Claim]) -> Word {
    let entry = |claim: &Claim| builds[claim.build].entry(claim.earlier);
    let known = claims.iter().find(|claim| entry(claim).is_some());
    let first = known.or(claims.first())?;
    let same = claims
        .iter()
        .all(|claim| match (entry(first), entry(claim)) {
            (Some(one), Some(other)) => one.json == other.json,
            _ => name.contains('@') || builds[first.build].digest == builds[claim.build].digest,
        });
    same.then_some((first.build, first.earlier))
}
