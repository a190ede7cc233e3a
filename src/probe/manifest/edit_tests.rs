use super::*;

/// httpGet in place of exec, below `/p`.
fn change(document: usize) -> Change {
    at(document, "/p")
}

fn at(document: usize, pointer: &str) -> Change {
    let patch = format!(
        r#"[{{"op":"remove","path":"{pointer}/exec"}},
            {{"op":"add","path":"{pointer}/httpGet","value":{{"path":"/x","port":80}}}}]"#
    );
    Change {
        document,
        patch: serde_json::from_str(&patch).unwrap(),
    }
}

#[test]
fn only_the_handlers_own_lines_change() {
    for (before, after) in [
        (
            "# top\np:   # the probe\n  exec:\n    command:\n    - curl\n    - http://x # why\n  periodSeconds: 5\n\n# end\n",
            "# top\np:   # the probe\n  httpGet:\n    path: /x\n    port: 80 # why\n  periodSeconds: 5\n\n# end\n",
        ),
        (
            "p:\n    periodSeconds: 5\n    exec: {command: [curl, x]}\nq: 1",
            "p:\n    periodSeconds: 5\n    httpGet:\n      path: /x\n      port: 80\nq: 1",
        ),
        (
            "p:\n  exec: # with curl\n    # two\n    command: [curl]\n",
            "p:\n  # with curl\n  # two\n  httpGet:\n    path: /x\n    port: 80\n",
        ),
        (
            "p: {exec: {command: [a]}, periodSeconds: 5} # x\n",
            "p: {httpGet: {\"path\":\"/x\",\"port\":80}, periodSeconds: 5} # x\n",
        ),
        (
            "p:\n  exec:\n    command:\n      - sh\n      - -c\n      - |\n        curl x\n        exit 1\n\n  # next\n  a: b\n",
            "p:\n  httpGet:\n    path: /x\n    port: 80\n\n  # next\n  a: b\n",
        ),
        (
            "p:\r\n  exec:\r\n    command: [a]\r\n  b: c\r\n",
            "p:\r\n  httpGet:\r\n    path: /x\r\n    port: 80\r\n  b: c\r\n",
        ),
        (
            "{\"p\":{\"exec\":{\"command\":[\"a\"]},\"b\":1}}",
            "{\"p\":{\"httpGet\":{\"path\":\"/x\",\"port\":80},\"b\":1}}",
        ),
        (
            "{\n  \"p\": {\n    \"exec\": {\n      \"command\": [\"a\"]\n    }\n  }\n}\n",
            "{\n  \"p\": {\n    \"httpGet\": {\n      \"path\": \"/x\",\n      \"port\": 80\n    }\n  }\n}\n",
        ),
        (
            "p:\n  exec: &e\n    command: [a]\n",
            "p:\n  httpGet:\n    path: /x\n    port: 80\n",
        ),
        (
            "e: &e {command: [a]}\np:\n  exec: *e\n  b: c\n",
            "e: &e {command: [a]}\np:\n  httpGet:\n    path: /x\n    port: 80\n  b: c\n",
        ),
        (
            "ü: ö\np:\n  exec: {command: [ä]} # ß\n",
            "ü: ö\np:\n  httpGet:\n    path: /x\n    port: 80 # ß\n",
        ),
        (
            "p:\n  exec:\n",
            "p:\n  httpGet:\n    path: /x\n    port: 80\n",
        ),
    ] {
        assert_eq!(edit(before, &[change(0)]).as_deref(), Ok(after), "{before}");
    }
}

#[test]
fn items_of_lists_and_further_documents_are_found() {
    let before = "a: 1\n---\nc:\n- exec:\n    command: [a]\n- x: y\n";
    let after = "a: 1\n---\nc:\n- httpGet:\n    path: /x\n    port: 80\n- x: y\n";
    assert_eq!(edit(before, &[at(1, "/c/0")]).as_deref(), Ok(after));
}

#[test]
fn two_probes_of_one_anchor_change_together_or_not_at_all() {
    let text = "p: &p\n  exec: {command: [a]}\nq: *p\n";
    assert_eq!(edit(text, &[at(0, "/p")]), Err(Refused::Meaning));
    assert_eq!(
        edit(text, &[at(0, "/p"), at(0, "/q")]).as_deref(),
        Ok("p: &p\n  httpGet:\n    path: /x\n    port: 80\nq: *p\n")
    );
    let merged = "d: &d\n  exec: {command: [a]}\np:\n  <<: *d\n";
    assert_eq!(edit(merged, &[change(0)]), Err(Refused::Meaning));
    let used = "p:\n  exec: &e {command: [a]}\nq:\n  exec: *e\n";
    assert_eq!(edit(used, &[change(0)]), Err(Refused::Meaning));
}

#[test]
fn no_key_comes_to_stand_twice_in_a_mapping() {
    let text = "p:\n  httpGet: {}\n  exec: {command: [a]}\n";
    assert_eq!(edit(text, &[change(0)]), Err(Refused::Meaning));
    let merged = "p:\n  <<:\n    httpGet: {}\n    exec: {command: [a]}\n";
    assert_eq!(edit(merged, &[change(0)]), Err(Refused::Meaning));
    // One that does already is not ours.
    let twice = "q: 1\nq: 2\np:\n  exec: {command: [a]}\n";
    assert!(edit(twice, &[change(0)]).is_ok());
}

#[test]
fn what_cannot_be_changed_is_refused_with_its_reason() {
    assert_eq!(
        edit("p: {\n  exec: # x\n    {command: [a]}}\n", &[change(0)]),
        Err(Refused::Comment(2))
    );
    for text in ["p: 1\n", "q: 1\n", "p:\n  grpc: {}\n"] {
        assert!(
            matches!(edit(text, &[change(0)]), Err(Refused::Place(_))),
            "{text}"
        );
    }
    assert!(matches!(
        edit("p: [\n", &[change(0)]),
        Err(Refused::Unreadable(_))
    ));
}

#[test]
fn texts_are_quoted_where_yaml_would_read_something_else() {
    let value: Value = serde_json::from_str(
        r#"{"path":"/a: b #c","scheme":"HTTPS","host":"yes","httpHeaders":[{"name":"A","value":"1"}]}"#,
    )
    .unwrap();
    let mut lines = Vec::new();
    block("httpGet", &value, 0, &mut lines);
    let text = lines.join("\n");
    let read = read(&text).unwrap();
    assert_eq!(
        read.documents[0].root.at("/httpGet").unwrap().value(),
        value,
        "{text}"
    );
    for quoted in ["y", "N", "yEs", "NuLL", "8080", "-", ""] {
        assert_eq!(scalar(quoted), format!("\"{quoted}\""));
    }
    for plain in ["http", "HTTPS", "/x?y=1"] {
        assert_eq!(scalar(plain), plain);
    }
}
