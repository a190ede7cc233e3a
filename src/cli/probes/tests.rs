use super::*;
use whittle_probe::fixtures::{IMAGE, debian, scratch};

const DEPLOYMENT: &str = "\
# The shop.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: shop
spec:
  template:
    spec:
      containers:
        - name: app
          image: registry.example.com/team/app:1
          livenessProbe: # is it alive?
            periodSeconds: 5
            exec:
              command: [curl, -f, 'http://localhost:8080/healthz'] # asks
          readinessProbe:
            httpGet: {path: /ready, port: 8080}
---
apiVersion: v1
kind: Pod
metadata: {name: other}
spec:
  containers:
    - {name: other, image: 'registry.example.com/other:1', readinessProbe: {exec: {command: [cat, /x]}}}
";

const FIXED: &str =
    "            httpGet:\n              path: /healthz\n              port: 8080 # asks\n";

struct Run {
    code: u8,
    out: String,
    err: String,
}

/// Runs the command on a directory with a manifest and the report of its image.
fn run_on(manifest: &str, change: impl Fn(&mut Options, &std::path::Path)) -> (Run, String) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("web.yaml"), manifest).unwrap();
    let contents = serde_json::to_string(&scratch()).unwrap();
    std::fs::create_dir(at("reports")).unwrap();
    let report = format!(r#"{{"image":"{IMAGE}","digest":"sha256:00","contents":{contents}}}"#);
    std::fs::write(at("reports/app.json"), report).unwrap();
    let mut options = Options {
        files: vec![at("web.yaml")],
        reports: vec![at("reports")],
        registry: false,
        plain_http: false,
        ca: None,
        cluster: false,
        daemon: None,
        output: Format::Table,
        strict: false,
        fix: None,
    };
    change(&mut options, folder.path());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = futures::executor::block_on(run(&options, &mut out, &mut err));
    let text = |bytes| {
        String::from_utf8(bytes)
            .unwrap()
            .replace(folder.path().to_str().unwrap(), "")
    };
    let after = std::fs::read_to_string(at("web.yaml")).unwrap();
    let run = Run {
        code,
        out: text(out),
        err: text(err),
    };
    (run, after)
}

#[test]
fn manifests_are_judged_with_the_line_of_each_probe() {
    let (run, after) = run_on(DEPLOYMENT, |_, _| {});
    assert_eq!((run.code, run.err.as_str()), (FOUND, ""));
    let rows: Vec<String> = run
        .out
        .lines()
        .take(4)
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        rows,
        [
            "VERDICT WHERE OBJECT CONTAINER PROBE",
            "CannotWork /web.yaml:13 Deployment shop/web app livenessProbe",
            "Works /web.yaml:17 Deployment shop/web app readinessProbe",
            "Unknown /web.yaml:25 Pod other other readinessProbe",
        ]
    );
    assert!(
        run.out
            .ends_with("3 probes: 1 work, 1 cannot work, 1 unknown\n"),
        "{}",
        run.out
    );
    assert!(
        run.out
            .contains("report of registry.example.com/other:1 not found")
    );
    assert_eq!(after, DEPLOYMENT);
}

#[test]
fn the_exit_code_says_what_was_found() {
    let good = DEPLOYMENT.replace("[curl, -f, 'http://localhost:8080/healthz']", "[/app]");
    for (manifest, strict, code) in [
        (DEPLOYMENT, false, FOUND),
        (&good, false, 0),
        (&good, true, FOUND),
        ("", true, 0),
        ("a: [", false, FAILED),
        (
            "kind: Pod\nspec: {containers: [{name: 1}]}\n",
            false,
            FAILED,
        ),
    ] {
        let (run, _) = run_on(manifest, |options, _| options.strict = strict);
        assert_eq!(run.code, code, "{manifest}: {}", run.err);
    }
    let (run, _) = run_on("", |options, folder| {
        options.files.push(folder.join("none"))
    });
    assert!(
        run.code == FAILED && run.err.contains("none cannot be read"),
        "{}",
        run.err
    );
    let (run, _) = run_on("", |options, folder| {
        options.reports.push(folder.join("web.yaml"))
    });
    assert!(
        run.code == FAILED && run.err.contains("is not a report of an image"),
        "{}",
        run.err
    );
    let (run, _) = run_on("{{ if x }}\na: 1\n", |_, _| {});
    assert!(run.err.contains("helm template"), "{}", run.err);
}

#[test]
fn a_fix_changes_the_handlers_lines_alone() {
    let expected = DEPLOYMENT.replace(
        "            exec:\n              command: [curl, -f, 'http://localhost:8080/healthz'] # asks\n",
        FIXED,
    );
    let (run, after) = run_on(DEPLOYMENT, |options, _| options.fix = Some(Fixing::Print));
    assert_eq!(
        (run.code, run.out.as_str()),
        (0, expected.as_str()),
        "{}",
        run.err
    );
    assert!(run.err.contains("3 probes: 2 work"), "{}", run.err);
    assert_eq!(after, DEPLOYMENT);

    let (run, after) = run_on(DEPLOYMENT, |options, _| options.fix = Some(Fixing::Write));
    assert_eq!((run.code, run.err.as_str()), (0, "/web.yaml: 1 fixed\n"));
    assert_eq!(after, expected);
    // A byte order mark and other line ends stay.
    let other = format!("\u{feff}{}", DEPLOYMENT.replace('\n', "\r\n"));
    let (_, after) = run_on(&other, |options, _| options.fix = Some(Fixing::Write));
    assert_eq!(after, format!("\u{feff}{}", expected.replace('\n', "\r\n")));
}

#[test]
fn a_file_that_cannot_be_changed_safely_stays_as_it_is() {
    // The second container's image is not known, so its probe is to stay.
    let shared = DEPLOYMENT
        .replace("livenessProbe: #", "livenessProbe: &live #")
        .replace(
            "port: 8080}\n---",
            "port: 8080}\n        - {name: two, image: unknown, livenessProbe: *live}\n---",
        );
    let (run, after) = run_on(&shared, |options, _| options.fix = Some(Fixing::Write));
    assert_eq!(run.code, FAILED, "{}{}", run.out, run.err);
    assert!(run.err.contains("left unchanged"), "{}", run.err);
    assert_eq!(after, shared);
}

#[test]
fn images_are_named_for_whoever_looks_reports_up() {
    let manifest = Manifest::read("x", DEPLOYMENT.into()).unwrap();
    let manifests = Manifests {
        all: vec![manifest],
    };
    assert_eq!(
        manifests.images().into_iter().collect::<Vec<_>>(),
        ["registry.example.com/other:1", IMAGE]
    );
    let mut reports = Reports::default();
    reports.add(Report {
        image: IMAGE.into(),
        digests: Vec::new(),
        contents: debian(),
        health_check: None,
    });
    assert_eq!(reports.len(), 1);
    assert_eq!(manifests.judge(&reports).counts(), (1, 1, 1));
}

#[test]
fn each_format_tells_the_same() {
    let of = |format| run_on(DEPLOYMENT, |options, _| options.output = format).0;
    let json: serde_json::Value = serde_json::from_str(&of(Format::Json).out).unwrap();
    assert_eq!(
        json["summary"],
        serde_json::json!({"works": 1, "cannotWork": 1, "unknown": 1})
    );
    let first = &json["findings"][0];
    assert_eq!(
        (first["line"].as_i64(), first["column"].as_i64()),
        (Some(13), Some(11))
    );
    assert_eq!(first["program"], "curl");
    assert_eq!(
        first["fix"]["patch"][1]["path"],
        "/spec/template/spec/containers/0/livenessProbe/httpGet"
    );

    let sarif: serde_json::Value = serde_json::from_str(&of(Format::Sarif).out).unwrap();
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    assert_eq!(results.len(), 2);
    assert_eq!(results[0]["ruleId"], "probe-cannot-work");
    assert_eq!(results[0]["level"], "error");
    let region = &results[0]["locations"][0]["physicalLocation"]["region"];
    assert_eq!(
        *region,
        serde_json::json!({"startLine": 13, "startColumn": 11, "endLine": 16})
    );
    assert_eq!(results[1]["level"], "note");

    let junit = of(Format::Junit).out;
    assert!(junit.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"whittle probes\" tests=\"3\" failures=\"1\" errors=\"0\">"), "{junit}");
    assert!(
        junit.contains("<testcase classname=\"Deployment shop/web\" name=\"app readinessProbe\""),
        "{junit}"
    );
    assert!(junit.contains("<failure type=\"CannotWork\""), "{junit}");
    assert!(junit.contains("<skipped message="), "{junit}");
    assert!(junit.contains("&quot;path&quot;"), "{junit}");
}

#[test]
fn what_ends_in_yaml_or_json_is_a_manifest() {
    for (path, is) in [
        ("ib.yaml", true),
        ("a/ib.yml", true),
        ("x.json", true),
        ("-", true),
        ("Dockerfile", false),
        ("docker/prod.Dockerfile", false),
    ] {
        assert_eq!(is_manifest(std::path::Path::new(path)), is, "{path}");
    }
}
