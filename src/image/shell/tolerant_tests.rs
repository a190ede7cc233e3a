use super::*;
use crate::shell::Shell;
use crate::shell::syntax::{Node, Simple, parse};

/// The simple commands of a tree, in the order in which they stand.
fn simple(node: &Node, into: &mut Vec<Vec<String>>) {
    match node {
        Node::Simple(Simple { words, .. }) => {
            for word in words {
                for piece in &word.pieces {
                    if let Piece::Output(inner) = piece {
                        simple(inner, into);
                    }
                }
            }
            if !words.is_empty() {
                into.push(words.iter().map(shown).collect());
            }
        }
        Node::Pipe(all) | Node::Case(_, all) => all.iter().for_each(|node| simple(node, into)),
        Node::Not(inner) | Node::Subshell(inner) | Node::For(_, inner) => simple(inner, into),
        Node::And(left, right) | Node::Or(left, right) | Node::Loop(left, right, _) => {
            simple(left, into);
            simple(right, into);
        }
        Node::Sequence(all) => all.iter().for_each(|(node, _)| simple(node, into)),
        Node::If(arms, other) => {
            for (condition, then) in arms {
                simple(condition, into);
                simple(then, into);
            }
            if let Some(other) = other {
                simple(other, into);
            }
        }
    }
}

#[test]
fn both_readers_see_the_same_commands_in_what_the_strict_one_takes() {
    for text in [
        "a 'b c' \"d $E\" f\\ g && h || i | j; k & l",
        "if a; then b; elif c; then d; else e; fi",
        "while a 1; do b; done; until c; do (d; e); done",
        "for x in 1 2; do a \"$x\"; done >/dev/null 2>&1",
        "case $x in a|b) c d ;; *) e ;; esac",
        "! a | { b; c; } # d",
        "a $(b \"$(c)\") `d e` $? $$ ${F#*:} ~/g *.h [ij] {k,l}",
        "[ -f a ] && b ä \"ö\" 'ü'",
        "a \\\n  b <c >>d",
    ] {
        let mut strict = vec![];
        simple(&parse(text, Shell::Bash).unwrap(), &mut strict);
        let tolerant: Vec<Vec<String>> = outline(text)
            .commands
            .into_iter()
            .map(|command| command.words)
            .collect();
        assert_eq!(tolerant, strict, "{text}");
    }
}

#[test]
fn what_the_strict_reader_refuses_is_read_as_well_as_it_can_be() {
    for (text, words) in [
        ("a 'b", &[&["a", "b"][..]][..]),
        ("a \"b $(c", &[&["c"], &["a", "b $()"]]),
        ("a `b", &[&["b"], &["a", "$()"]]),
        ("a \\", &[&["a"]]),
        ("a $'b' $\"c\" $((1+2)) x", &[&["a", "b", "$c", "$()", "x"]]),
        ("a <<E <(b)\nc\nE\nd", &[&["b"], &["a"], &["d"]]),
        ("a ${B:-$(c)", &[&["c"], &["a", "${B:-$(c)"]]),
        ("fi ) a", &[&["a"]]),
    ] {
        assert!(parse(text, Shell::Bash).is_err(), "{text}");
        let found = outline(text).commands;
        let found: Vec<Vec<&str>> = found
            .iter()
            .map(|it| it.words.iter().map(String::as_str).collect())
            .collect();
        assert_eq!(found, words, "{text}");
    }
}

#[test]
fn signs_that_the_shell_fills_in_itself_are_no_variables() {
    let used = |text: &str| -> Vec<String> {
        let uses = outline(text).uses;
        uses.into_iter().map(|used| used.name).collect()
    };
    assert_eq!(used("a $$B $1C $?D \"$#E\" $-F"), [""; 0]);
    assert_eq!(used("a $$$B ${#C} $D"), ["B", "C", "D"]);
}

#[test]
fn what_is_nested_too_deeply_is_opaque() {
    assert!(!outline(&"(".repeat(DEPTH)).opaque);
    for sign in ["(", "$(", "\"${A:-"] {
        assert!(outline(&sign.repeat(10_000)).opaque, "{sign}");
    }
}
