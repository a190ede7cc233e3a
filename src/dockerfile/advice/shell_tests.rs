//! What is read of a shell's text.

use super::*;
use crate::reader::parse;

fn of(run: &str) -> Script {
    let file = parse(&format!("FROM a\n{run}\n")).unwrap();
    script(&file.instructions[1]).unwrap()
}

fn commands(run: &str) -> Vec<String> {
    of(run).commands.iter().map(|c| c.words.join(" ")).collect()
}

fn unset(run: &str) -> Vec<String> {
    let script = of(run);
    script
        .uses
        .iter()
        .filter(|used| !used.guarded && !script.assigned.contains(&used.name))
        .map(|used| used.name.clone())
        .collect()
}

#[test]
fn commands_are_found_wherever_a_shell_would_run_them() {
    assert_eq!(
        commands("RUN a 1 && b '2 3'|c; (d) || { e; } & f"),
        ["a 1", "b 2 3", "c", "d", "e", "f"]
    );
    assert_eq!(
        commands("RUN if [ -f x ]; then a; elif b; else c; fi; for i in 1 2; do d $i; done"),
        ["[ -f x ]", "a", "b", "c", "d $i"]
    );
    assert_eq!(
        commands("RUN x=$(a b) y=`c`; d \"$(e)\""),
        ["a b", "c", "e", "d $()"]
    );
    assert_eq!(
        commands(
            "RUN DEBIAN_FRONTEND=noninteractive sudo -E /usr/bin/apt-get -y install x >/dev/null 2>&1"
        ),
        ["apt-get -y install x"]
    );
    assert_eq!(
        commands("RUN bash -lc 'a && b'"),
        ["a", "b", "bash -lc a && b"]
    );
    assert_eq!(commands("RUN [\"a\", \"b\"]"), ["a b"]);
    assert_eq!(
        commands("RUN [\"/bin/sh\", \"-c\", \"a && b\"]"),
        ["a", "b"]
    );
    assert_eq!(commands("RUN a \\\n # a note\n  && b"), ["a", "b"]);
    assert_eq!(
        commands("RUN <<EOF\n# note\na\nb \\\n  c\nEOF"),
        ["a", "b c"]
    );
    assert_eq!(
        commands("RUN cat <<EOF > /x && b\napt-get update\nEOF"),
        ["cat", "b"]
    );
}

#[test]
fn a_script_of_another_language_is_not_read() {
    let file = parse("FROM a\nRUN <<EOF\n#!/usr/bin/env python3\nprint('$X')\nEOF\n").unwrap();
    assert!(script(&file.instructions[1]).is_none());
    assert_eq!(commands("RUN <<EOF\n#!/usr/bin/env -S bash\na\nEOF"), ["a"]);
}

#[test]
fn only_what_the_shell_would_fill_in_is_a_use() {
    assert_eq!(
        unset("RUN a $A ${B} \"$C\" ${D#v} ${#E} x${F}y"),
        ["A", "B", "C", "D", "E", "F"]
    );
    assert_eq!(
        unset("RUN a '$A' \\$B \"\\$C\" $$ $? $1 ${1} $'$D' # $E"),
        [""; 0]
    );
    assert_eq!(
        unset("RUN a ${A:-x} ${B-x} ${C:+x} ${D:?x} ${E:=x} $E"),
        [""; 0]
    );
    assert_eq!(unset("RUN a ${A:-$B}"), ["B"]);
    assert_eq!(unset("RUN cat <<EOF\n$A\nEOF"), ["A"]);
    assert_eq!(unset("RUN cat <<'EOF'\n$A\nEOF"), [""; 0]);
    assert_eq!(unset("RUN <<'EOF'\necho $A\nEOF"), ["A"]);
    assert_eq!(unset("RUN [\"echo\", \"$A\"]"), [""; 0]);
    assert_eq!(unset("RUN a $(( $A + 1 )) $B"), ["A", "B"]);
}

#[test]
fn what_the_text_sets_itself_is_set() {
    for run in [
        "RUN A=1; b $A",
        "RUN A=1 b && c $A",
        "RUN export A=1 && b $A",
        "RUN for A in 1 2; do b $A; done",
        "RUN b | while read -r X A; do c $A; done",
        "RUN local A=$(b); c $A",
        "RUN A=${A:-1}; b $A",
        "RUN case x in y) A=1 ;; esac; b $A",
        "RUN printf -v A x; b $A",
    ] {
        assert_eq!(unset(run), [""; 0], "{run}");
    }
    assert_eq!(unset("RUN A=$A b"), ["A"]);
    assert!(of("RUN . /etc/os-release && b $VERSION").opaque);
    assert!(of("RUN export $(cat .env | xargs) && b $VERSION").opaque);
    assert!(!of("RUN export A=$(b) && b $VERSION").opaque);
    assert!(of("RUN eval \"$(b)\" && c $A").opaque);
}

#[test]
fn places_lead_to_the_very_line() {
    let script = of("RUN a \\\n\n  # note\n  && b \\\n  && c $X");
    let lines: Vec<_> = script
        .commands
        .iter()
        .map(|c| script.text.line(c.at))
        .collect();
    assert_eq!(lines, [2, 5, 6]);
    assert_eq!(script.text.line(script.uses[0].at), 6);
    let script = of("RUN <<EOF\na\nb\nEOF");
    assert_eq!(script.text.line(script.commands[1].at), 4);
    let script = of("RUN cat <<EOF\na\n$X\nEOF");
    assert_eq!(script.text.line(script.uses[0].at), 4);
}
