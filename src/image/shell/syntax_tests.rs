use super::*;

fn parse(script: &str) -> Result<Node, &'static str> {
    super::parse(script, Shell::Bash)
}

/// A script in one line: what stands where.
fn shape(node: &Node) -> String {
    let join = |nodes: &[Node], by: &str| nodes.iter().map(shape).collect::<Vec<_>>().join(by);
    match node {
        Node::Simple(simple) => {
            let mut all: Vec<String> = simple
                .assigns
                .iter()
                .map(|(name, value)| format!("{name}={}", text(value)))
                .collect();
            all.extend(simple.words.iter().map(text));
            all.extend(
                simple
                    .redirects
                    .iter()
                    .map(|(op, word)| format!("{op}{}", text(word))),
            );
            all.join(" ")
        }
        Node::Pipe(all) => join(all, " | "),
        Node::Not(inner) => format!("! {}", shape(inner)),
        Node::And(a, b) => format!("({} && {})", shape(a), shape(b)),
        Node::Or(a, b) => format!("({} || {})", shape(a), shape(b)),
        Node::Sequence(all) => all
            .iter()
            .map(|(node, background)| shape(node) + if *background { " &" } else { ";" })
            .collect::<Vec<_>>()
            .join(" "),
        Node::If(arms, other) => {
            let arms: Vec<String> = arms
                .iter()
                .map(|(condition, then)| format!("if {} then {}", shape(condition), shape(then)))
                .collect();
            let other = other
                .as_ref()
                .map_or_else(String::new, |other| format!(" else {}", shape(other)));
            arms.join(" el") + &other
        }
        Node::Loop(condition, body, until) => {
            let word = if *until { "until" } else { "while" };
            format!("{word} {} do {}", shape(condition), shape(body))
        }
        Node::For(words, body) => {
            let words: Vec<String> = words.iter().map(text).collect();
            format!("for {} do {}", words.join(" "), shape(body))
        }
        Node::Case(word, arms) => format!("case {} {}", text(word), join(arms, " / ")),
        Node::Subshell(inner) => format!("({})", shape(inner)),
    }
}

fn text(word: &Word) -> String {
    word.pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Variable(name) => format!("<{name}>"),
            Piece::Output(node) => format!("<{}>", shape(node)),
            Piece::Other(text) => format!("<{text}>"),
        })
        .collect()
}

#[test]
fn scripts_are_read_as_a_shell_reads_them() {
    for (script, read) in [
        ("a 'b c' \"d $E\" f\\ g", "a b c d <E> f g"),
        ("a && b || c; d & e", "((a && b) || c); d & e;"),
        ("a | b |c", "a | b | c"),
        ("! a | b", "! a | b"),
        (
            "A=1 B= c >/dev/null 2>&1 </x",
            "A=1 B= c >/dev/null 2>&1 </x",
        ),
        ("X=$(a; b) && c `d e`", "(X=<a; b;> && c <d e>)"),
        (
            "if a; then b; elif c; then d; else e; fi",
            "if a then b elif c then d else e",
        ),
        (
            "while a; do b; done; until c; do d; done",
            "while a do b; until c do d;",
        ),
        ("for x in 1 $Y; do a; done", "for 1 <Y> do a"),
        ("case $X in a|b) c ;; *) d; e;; esac", "case <X> c / d; e;"),
        ("(a; b) && { c; }", "((a; b;) && c)"),
        ("[ -f /x ] && [ a ]", "([ -f /x ] && [ a ])"),
        ("ls *.x ~ ${A:-b} $?", "ls <*>.x <~> <${A:-b}> <$?>"),
        ("a # b\nc \\\n d", "a; c d;"),
        ("a; ", "a"),
        ("", ""),
        ("if-up then", "if-up then"),
        ("echo if", "echo if"),
        ("test $X = ''", "test <X> = "),
        ("a$", "a$"),
    ] {
        assert_eq!(
            parse(script).map(|node| shape(&node)).as_deref(),
            Ok(read),
            "{script}"
        );
    }
}

#[test]
fn what_is_not_read_is_an_error() {
    for script in [
        "f() { a; }",
        "a <<E\nE",
        "((1))",
        "a $((1))",
        "a <(b)",
        "x=(1 2)",
        "'a",
        "a \"",
        "a )",
        "if a; then b",
        "while a; do b",
        "&& a",
        "a;; b",
        "a &&",
        "| a",
        "fi",
        "a ${X:-$(b)}",
        "$'a'",
        "(a",
        "`a",
        "a \\",
        "! ",
        "case a in",
        "for",
    ] {
        assert!(parse(script).is_err(), "{script}: {:?}", parse(script));
    }
    assert!(parse(&"(".repeat(100_000)).is_err());
    assert!(parse(&"(".repeat(10_000)).is_err());
    assert!(parse(&"$(".repeat(5_000)).is_err());
    assert!(parse(&"! ".repeat(5_000)).is_err());
    assert!(parse(&"a&&".repeat(5_000)).is_err());
    assert!(parse(&("a&&".repeat(5_000) + "a")).is_err());
}
