use super::*;

fn values(text: &str) -> Vec<Value> {
    read(text)
        .unwrap()
        .documents
        .iter()
        .map(|document| document.root.value())
        .collect()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn documents_are_read_as_kubectl_reads_them() {
    assert_eq!(
        values(
            "# note\n---\na: 1\nb: [x, 'y', {c: yes}]\n---\n---\n{\"d\": null, \"e\": 1.5}\n...\n"
        ),
        [
            json(r#"{"a":1,"b":["x","y",{"c":true}]}"#),
            Value::Null,
            json(r#"{"d":null,"e":1.5}"#)
        ]
    );
    for (text, value) in [
        ("0755", "493"),
        ("0o17", "15"),
        ("0x1F", "31"),
        ("-5", "-5"),
        ("0X1f", "31"),
        ("1_000", "1000"),
        ("_1", "\"_1\""),
        ("'0755'", "\"0755\""),
        ("!!str 12", "\"12\""),
        ("10.0.0.1", "\"10.0.0.1\""),
        ("2024-01-01", "\"2024-01-01\""),
        ("1e3", "1000"),
        ("1E3", "1000"),
        ("08", "8"),
        ("~", "null"),
        ("off", "false"),
        ("y", "true"),
        ("N", "false"),
        ("nope", "\"nope\""),
        ("0x", "\"0x\""),
        ("-", "[null]"),
        ("|\n  a\n  b\n", "\"a\\nb\\n\""),
    ] {
        assert_eq!(values(&format!("{text}\n")), [json(value)], "{text}");
    }
}

#[test]
fn aliases_and_merge_keys_are_followed_and_bombs_are_not() {
    assert_eq!(
        values("a: &a {x: 1, z: 2}\nb: *a\nc:\n  <<: *a\n  z: 3\n"),
        [json(
            r#"{"a":{"x":1,"z":2},"b":{"x":1,"z":2},"c":{"x":1,"z":3}}"#
        )]
    );
    assert_eq!(
        values("a: &a {x: 1}\n'<<': *a\n!!str <<: 2\n"),
        [json(r#"{"a":{"x":1},"<<":2}"#)]
    );
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let last = format!("*a{}", level - 1);
        bomb.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            vec![last; 10].join(", ")
        ));
    }
    assert!(read(&bomb).is_err());
    // Anchors within anchors hold what stands in them each.
    let mut nested = "x".to_owned();
    nested.push_str(&", x".repeat(2_000));
    for level in 0..200 {
        nested = format!("&a{level} [{nested}]");
    }
    assert!(read(&nested).is_err());
}

#[test]
fn keys_that_are_merged_many_times_stand_once() {
    let keys: Vec<String> = (0..4_000).map(|key| format!("k{key}: 1")).collect();
    let text = format!(
        "a: &a {{{}}}\nb:\n  <<: [{}]\n  k0: 2\n",
        keys.join(", "),
        vec!["*a"; 40].join(", ")
    );
    let b = &values(&text)[0]["b"];
    assert_eq!(b.as_object().unwrap().len(), 4_000);
    assert_eq!((&b["k0"], &b["k1"]), (&json("2"), &json("1")));
}

#[test]
fn places_are_those_of_keys_and_of_the_ends_of_values() {
    let text = "a:\n  b:\n    - c: 1 # note\n      d: |\n        x\n\n  # more\n  e: {f: [1, 2]}\n";
    let read = read(text).unwrap();
    let root = &read.documents[0].root;
    let slice = |pointer: &str| &text[root.at(pointer).unwrap().span.clone()];
    assert_eq!(slice("/a/b/0/c"), "1");
    assert_eq!(slice("/a/e"), "{f: [1, 2]}");
    assert_eq!(slice("/a/e/f"), "[1, 2]");
    assert_eq!(
        slice("/a/b/0").trim_end(),
        "c: 1 # note\n      d: |\n        x"
    );
    assert_eq!(slice("/a").trim_end(), &text[5..text.len() - 1]);
    let place = |pointer: &str| root.place(pointer).unwrap().0;
    assert_eq!(place("/a/b/0/c"), Place { line: 3, column: 7 });
    assert_eq!(place("/a/e/nothing"), Place { line: 8, column: 3 });
    assert_eq!(root.place("/a/e").unwrap().1.line, 8);
    assert!(root.place("/nothing").is_none());
    assert_eq!(read.comments.len(), 2);
}

#[test]
fn what_is_no_yaml_says_where() {
    let error = read("a: 1\nb: [1\nc: 2\n").unwrap_err();
    assert!(error.to_string().starts_with("line "), "{error}");
    assert!(read("{{ if .Values.x }}\na: 1\n{{ end }}\n").is_err());
    for odd in [
        "",
        "\u{feff}a: 1\n",
        "\0",
        "? [a]\n: b\n",
        "*x",
        "- &a *a",
        "a: &a\n  b: *a\n",
    ] {
        let _ = read(odd);
    }
}

#[test]
fn lines_of_quoted_scalars_may_begin_anywhere_and_places_stay_those_of_the_file() {
    let text = "a:\n- b: \"\n  -Dx=y\n    \"\n  c: 'x\n\ty\nz'\nd: {e: f}\n";
    let found = read(text).unwrap();
    let root = &found.documents[0].root;
    assert_eq!(
        root.value(),
        json(r#"{"a":[{"b":" -Dx=y ","c":"x y z"}],"d":{"e":"f"}}"#)
    );
    let slice = |pointer: &str| &text[root.at(pointer).unwrap().span.clone()];
    assert_eq!(slice("/a/0/b"), "\"\n  -Dx=y\n    \"");
    assert_eq!(slice("/a/0/c"), "'x\n\ty\nz'");
    assert_eq!(slice("/d/e"), "f");
    let place = |pointer: &str| root.place(pointer).unwrap();
    assert_eq!(place("/d/e").0, Place { line: 8, column: 5 });
    assert_eq!(place("/a/0/b").1, Place { line: 4, column: 6 });
    assert_eq!(place("/a/0/c").1, Place { line: 7, column: 3 });
}

#[test]
fn what_kubectl_refuses_is_refused() {
    for text in [
        "a: {b: 1}\n? [c]\n: d\n",
        "~: a\n",
        "a: .inf\n",
        "a: \"\\/\"\n",
        "%YAML 1.1\n---\na: b\n",
        "--- a\n",
        "a:\n-\tb\n",
        "a: b\n\t# c\n",
        "a: !!int x\n",
        "a:\n  <<: 7\n",
        "a: \"b\n...\n\"\n",
        "a: {b\nc: d}\n",
    ] {
        assert!(read(text).is_err(), "{text}");
    }
    // In JSON it is an escape; and values of JSON may stand one after the other.
    assert_eq!(values("{\"a\": \"\\/\"}"), [json(r#"{"a":"/"}"#)]);
    let two = "{\"a\": 1}\n{\"b\": {\"c\": 2}}\n";
    assert_eq!(values(two), [json(r#"{"a":1}"#), json(r#"{"b":{"c":2}}"#)]);
    let found = read(two).unwrap();
    let place = found.documents[1].root.place("/b/c").unwrap();
    assert_eq!(place.0, Place { line: 2, column: 8 });
}

#[test]
fn many_lines_of_quoted_scalars_end() {
    let text = format!("a: \"{}\"\n", "\nb".repeat(20_000));
    assert!(read(&text).is_err());
    let text = format!("a: \"{}\"\n", "\nb".repeat(500));
    assert!(read(&text).is_ok());
}
