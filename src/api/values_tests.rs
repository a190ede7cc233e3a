use super::*;
use crate::BuilderSpec;
use kube::core::cel::validate_cel;
use regex::Regex;

const FILE: &str = include_str!("../../charts/whittle/values.schema.json");

#[test]
fn the_charts_schema_is_up_to_date() {
    assert!(
        values_schema(FILE).as_deref() == Some(FILE),
        "charts/whittle/values.schema.json is out of date: run make generate"
    );
}

#[test]
fn the_charts_schema_has_each_field_of_a_builder_and_no_other() {
    let schema: Value = serde_json::from_str(FILE).unwrap();
    let own = &schema["definitions"][DEFINITION];
    let fields: Vec<&String> = own["properties"].as_object().unwrap().keys().collect();
    let crd = serde_json::to_value(Builder::crd()).unwrap();
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut expected: Vec<&String> = spec["properties"].as_object().unwrap().keys().collect();
    expected.sort();
    assert!(
        fields.iter().any(|field| *field == "replicas"),
        "{fields:?}"
    );
    assert_eq!(fields, expected);
    assert_eq!(own["additionalProperties"], false);
    assert_eq!(
        schema["properties"]["builder"]["properties"]["defaults"]["$ref"],
        format!("#/definitions/{DEFINITION}")
    );
}

/// What the chart and the API server say to the size of a cache.
fn taken(size: &str) -> (bool, bool) {
    let own = builder_defaults();
    let pattern = own["properties"]["cache"]["properties"]["size"]["pattern"].as_str();
    let chart = Regex::new(pattern.unwrap()).unwrap().is_match(size);
    let mut spec = BuilderSpec::default();
    spec.cache.size = size.into();
    (chart, validate_cel(&Builder::new("default", spec)).is_ok())
}

#[test]
fn the_chart_takes_the_sizes_of_a_cache_that_the_api_server_takes() {
    for size in [
        "101Mi",
        "0101Mi",
        "20Gi",
        "1.5Gi",
        "+1Gi",
        "1Pi",
        "1Ei",
        "105M",
        "1P",
        "1E",
        "104857601",
        "104858k",
        "102401Ki",
        "1e9",
        "999Mi",
        "1000Mi",
        "110Mi",
        "200Mi",
        "100.5Mi",
    ] {
        assert_eq!(taken(size), (true, true), "{size}");
    }
    for size in [
        "5Mi", "99Mi", "099Mi", "99.9Mi", "99M", "99999999", "99999k", "99999Ki", "0", "1", "5m",
        "", "Gi", "much", "20GiB", "20 Gi", "-20Gi",
    ] {
        assert_eq!(taken(size), (false, false), "{size}");
    }
    // A bit less: the API server says so.
    for size in ["100Mi", "104M", "104857600", "0.01Gi", "0Gi", "1e3"] {
        assert_eq!(taken(size), (true, false), "{size}");
    }
}

#[test]
fn rules_that_a_schema_cannot_say_are_left_to_the_api_server() {
    for rule in [
        "!self.contains('a')",
        "self.matches('a') || self == ''",
        "!self.matches('a')",
        "self.exists(k, k == 'a')",
    ] {
        assert_eq!(said(rule), None, "{rule}");
    }
    let pattern = Some(("pattern".to_owned(), json!("^a$")));
    assert_eq!(said("self.matches('^a$')"), pattern);
    assert_eq!(said("self.matches('^a$') && duration(self) > x"), pattern);
}

#[test]
fn a_schema_without_a_place_for_it_is_told() {
    assert_eq!(values_schema("{}"), None);
}
