use super::*;
use crate::fixtures::request;
use whittle_api::{Debug, GitSource};

const COMMIT: &str = "837dd142b9ed4a2a48537e32a6406699dbe776bd";

fn git(reference: Option<GitRef>) -> Source {
    Source {
        git: Some(GitSource {
            url: "https://git.example.com/x.git".into(),
            reference,
            sub_path: None,
            secret_ref: None,
        }),
        ..Source::default()
    }
}

fn branch() -> Source {
    git(Some(GitRef {
        branch: Some("any".into()),
        ..GitRef::default()
    }))
}

fn tagged() -> Source {
    git(Some(GitRef {
        tag: Some("any".into()),
        ..GitRef::default()
    }))
}

fn by_commit() -> Source {
    git(Some(GitRef {
        commit: Some(COMMIT.into()),
        ..GitRef::default()
    }))
}

/// As a source of Flux is built: by the commit, and known by the name that Flux has followed.
fn by_flux(branch: Option<&str>, tag: Option<&str>) -> Source {
    git(Some(GitRef {
        branch: branch.map(Into::into),
        tag: tag.map(Into::into),
        commit: Some(COMMIT.into()),
        ..GitRef::default()
    }))
}

fn found_by(name: &str) -> Known {
    Known {
        commit: Some(COMMIT.into()),
        found_by: (!name.is_empty()).then(|| name.to_owned()),
        time: Some("2026-11-26T18:45:00Z".parse().unwrap()),
        build: 42,
    }
}

fn inputs(source: Source, tags: &[&str]) -> Inputs {
    let mut inputs = request().inputs;
    inputs.source = source;
    inputs.output.tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    inputs
}

#[test]
fn tags_have_values_in_the_place_of_variables_and_are_tags() {
    let whole = &format!("{COMMIT}-x");
    for (source, name, text, expected) in [
        (branch(), "main", "latest", "latest"),
        (
            branch(),
            "main",
            "main-$(SHORT_COMMIT)-$(BUILD_NUMBER)",
            "main-837dd14-42",
        ),
        (branch(), "main", "$(COMMIT)-x", whole),
        (branch(), "feature/x", "$(BRANCH)", "feature-x"),
        (branch(), "feature/#12(ü)%", "$(BRANCH)", "feature--12----"),
        (branch(), "-/.x", "$(BRANCH)", "x"),
        (branch(), ".x", "a$(BRANCH)", "a.x"),
        (git(None), "main", "$(BRANCH)", "main"),
        (by_commit(), "", "$(SHORT_COMMIT)", "837dd14"),
        (branch(), "main", "$(COMMIT_TIME)", "20261126T184500Z"),
        (tagged(), "release/1", "$(TAG)", "release-1"),
        (tagged(), "v1.2.3", "$(SEMVER)", "1.2.3"),
        (tagged(), "1.2.3-rc.1+5", "$(SEMVER)", "1.2.3-rc.1-5"),
        (by_flux(Some("main"), None), "main", "$(BRANCH)", "main"),
        (
            by_flux(None, Some("v1.2.3")),
            "v1.2.3",
            "$(SEMVER)",
            "1.2.3",
        ),
        (Source::default(), "", "b$(BUILD_NUMBER)", "b42"),
    ] {
        let all = expanded(&inputs(source, &[text]), &found_by(name)).unwrap();
        assert_eq!(all.output.tags, [expected], "{text} of {name}");
        assert!(is_tag(expected), "{expected}");
    }
}

#[test]
fn what_cannot_be_replaced_is_told_with_the_tag_and_what_to_do() {
    let long = &"b".repeat(120);
    for (source, name, text, words) in [
        (
            branch(),
            "main",
            "$(NOPE)",
            "unknown variable $(NOPE): use one of $(COMMIT), $(SHORT_COMMIT)",
        ),
        (
            branch(),
            "main",
            "a$(COMMIT",
            "unclosed variable: ) missing",
        ),
        (
            branch(),
            "main",
            "$$(COMMIT)",
            "invalid tag: $(COMMIT): use letters",
        ),
        (
            branch(),
            "main",
            "$(TAG)",
            "$(TAG) is unknown: the source is not a git tag: set source.git.ref.tag",
        ),
        (branch(), "v1.2.3", "$(SEMVER)", "a version such as v1.2.3"),
        (tagged(), "v1.2", "$(SEMVER)", "a version such as v1.2.3"),
        (tagged(), "v1", "$(BRANCH)", "$(BRANCH) is unknown"),
        (by_commit(), "", "$(BRANCH)", "$(BRANCH) is unknown"),
        // A HEAD that is no branch.
        (git(None), "HEAD", "$(BRANCH)", "$(BRANCH) is unknown"),
        (
            Source::default(),
            "main",
            "$(SHORT_COMMIT)",
            "require source.git",
        ),
        (
            Source::default(),
            "main",
            "$(COMMIT_TIME)",
            "require source.git",
        ),
        (
            branch(),
            "ü",
            "$(BRANCH)",
            "the tag is empty once its variables are replaced",
        ),
        (
            branch(),
            long,
            "$(BRANCH)-$(SHORT_COMMIT)x",
            "has 129 characters, and at most 128",
        ),
    ] {
        let why = expanded(&inputs(source, &["latest", text]), &found_by(name)).unwrap_err();
        assert!(why.starts_with(&format!("output.tags: {text}: ")), "{why}");
        assert!(why.contains(words), "{why}");
    }
    let timeless = Known {
        time: None,
        ..found_by("main")
    };
    let why = expanded(&inputs(branch(), &["$(COMMIT_TIME)"]), &timeless).unwrap_err();
    assert!(why.contains("no time of the commit"), "{why}");
}

#[test]
fn the_suffix_of_the_second_image_counts_as_part_of_a_tag() {
    let mut inputs = inputs(branch(), &["$(BRANCH)"]);
    let name = "b".repeat(TAG - 6);
    assert!(expanded(&inputs, &found_by(&name)).is_ok());
    inputs.debug = Some(Debug {
        target: Some("debug".into()),
        image: None,
        full: false,
        tag_suffix: "-debug".into(),
    });
    assert!(expanded(&inputs, &found_by(&name)).is_ok());
    let why = expanded(&inputs, &found_by(&format!("{name}b"))).unwrap_err();
    assert!(
        why.contains("has 129 characters with debug.tagSuffix -debug"),
        "{why}"
    );
}

#[test]
fn tags_that_become_the_same_are_one() {
    let inputs = inputs(
        branch(),
        &["$(BRANCH)", "feature-x", "latest", "$(BRANCH)-1"],
    );
    let all = expanded(&inputs, &found_by("feature/x")).unwrap();
    assert_eq!(all.output.tags, ["feature-x", "latest", "feature-x-1"]);
}

#[test]
fn so_many_tags_that_a_report_has_no_room_for_them_are_told_before_anything_is_built() {
    let texts: Vec<String> = (10..36).map(|at| format!("$(BRANCH){at}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let name = "b".repeat(97);
    let why = expanded(&inputs(branch(), &texts), &found_by(&name)).unwrap_err();
    assert!(
        why.contains("2574 characters in all tags together"),
        "{why}"
    );
    // What stands in the spec need not go back.
    let texts: Vec<String> = (10..42)
        .map(|at| format!("{}{at}", "b".repeat(126)))
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    assert!(expanded(&inputs(branch(), &texts), &found_by("main")).is_ok());
}

#[test]
fn other_values_are_replaced_as_they_are() {
    let mut inputs = inputs(branch(), &["latest"]);
    let text = "$(BRANCH)@$(COMMIT_TIME) of $$(COMMIT), $$$(BRANCH), $5, $$ and $";
    inputs.build_args = [("A".into(), text.to_owned())].into();
    inputs.output.labels = [("l".into(), "$(SHORT_COMMIT)".to_owned())].into();
    inputs.output.annotations = [("a".into(), "$(BUILD_NUMBER)".to_owned())].into();
    let all = expanded(&inputs, &found_by("feature/ü")).unwrap();
    assert_eq!(
        all.build_args["A"],
        "feature/ü@2026-11-26T18:45:00Z of $(COMMIT), $$feature/ü, $5, $$ and $"
    );
    assert_eq!(all.output.labels["l"], "837dd14");
    assert_eq!(all.output.annotations["a"], "42");
    inputs.output.labels = [("l".into(), "$(NOPE)".to_owned())].into();
    let why = expanded(&inputs, &found_by("main")).unwrap_err();
    assert!(
        why.starts_with("output.labels l: unknown variable $(NOPE)"),
        "{why}"
    );
}

#[test]
fn a_variable_is_used_where_it_is_written_and_not_escaped() {
    let of = |text: &str| uses(&inputs(branch(), &["latest", text]), Variable::CommitTime);
    assert!(of("a-$(COMMIT_TIME)") && of("$(BRANCH)$(COMMIT_TIME)"));
    assert!(!of("$(COMMIT)") && !of("$$(COMMIT_TIME)") && !of("COMMIT_TIME"));
    let mut labelled = inputs(branch(), &[]);
    labelled.output.labels = [("l".into(), "$(COMMIT_TIME)".to_owned())].into();
    assert!(uses(&labelled, Variable::CommitTime));
}

#[test]
fn tags_with_variables_are_never_taken_for_tags() {
    let tags = ["latest", "$(COMMIT)", "a-$(BRANCH)"].map(str::to_owned);
    assert_eq!(literal(&tags), ["latest"]);
    for other in ["", "$(COMMIT)", ".a", "-a", "a/b", "a:b", &"a".repeat(129)] {
        assert!(!is_tag(other), "{other}");
    }
}
