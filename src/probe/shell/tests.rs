use crate::Verdict;
use crate::fixtures::{alpine, contents, debian, of_command, scratch};
use whittle_image::Contents;

/// The verdict as a word, and the program that decides where it cannot work.
fn verdict(command: &[&str], contents: Contents) -> String {
    let finding = of_command(command, contents);
    match finding.verdict {
        Verdict::Works => "works".into(),
        Verdict::Unknown(_) => "unknown".into(),
        Verdict::CannotWork(_) => format!("lacks {}", finding.program.unwrap()),
    }
}

fn table(contents: &dyn Fn() -> Contents, cases: &[(&str, &str)]) {
    for (script, expected) in cases {
        assert_eq!(
            &verdict(&["sh", "-c", script], contents()),
            expected,
            "{script}"
        );
    }
}

#[test]
fn commands_in_exec_form() {
    for (command, contents, expected) in [
        (&["/app", "health"][..], scratch(), "works"),
        (&["./app"], scratch(), "works"),
        (&["app"], scratch(), "lacks app"),
        (&["/app2"], scratch(), "lacks /app2"),
        (&["curl", "-f", "x"], debian(), "lacks curl"),
        (&["cat", "/tmp/x"], debian(), "works"),
        (&["/bin/cat"], debian(), "works"),
        (&["/bin//./cat"], debian(), "works"),
        (&["/sbin/cat"], debian(), "lacks /sbin/cat"),
        (&["/bin/../app"], debian(), "unknown"),
        (
            &["/lib64/ld-linux-x86-64.so.2", "/app"],
            debian(),
            "unknown",
        ),
        (&["sh", "/probe.sh"], debian(), "unknown"),
        (&["python3", "-c", "x"], debian(), "works"),
        (&["sh"], debian(), "works"),
        (&["sh"], scratch(), "lacks sh"),
        (&["true"], debian(), "works"),
        (&["timeout", "5", "wget"], debian(), "works"),
        (&["timeout", "5", "curl"], debian(), "lacks curl"),
        (&["timeout", "5", "curl"], scratch(), "lacks timeout"),
        (&["timeout", "-t", "5", "curl"], debian(), "unknown"),
        (&["env", "A=1", "curl"], debian(), "lacks curl"),
        (&["env", "A=1", "cat"], debian(), "works"),
        (&["env", "-i", "curl"], debian(), "unknown"),
        (&["/bin/busybox", "wget", "-q"], alpine(), "works"),
        (&["/bin/busybox", "nc"], alpine(), "unknown"),
        (&["busybox", "curl"], alpine(), "lacks busybox curl"),
        (&["busybox", "busybox", "/x/wget"], alpine(), "works"),
        (&["timeout", "5", "nc"], alpine(), "unknown"),
        (&[""], debian(), "lacks "),
        (&["ba\0sh"], debian(), "lacks ba\0sh"),
        (
            &["/broken"],
            contents(&["/broken ! /broken needs libx"]),
            "lacks /broken",
        ),
        (&["/odd"], contents(&["/odd ? it is odd"]), "unknown"),
    ] {
        assert_eq!(verdict(command, contents), expected, "{command:?}");
    }
}

#[test]
fn a_script_works_where_all_that_it_reaches_is_there() {
    table(
        &debian,
        &[
            ("wget -q localhost", "works"),
            ("exec wget", "works"),
            ("A=1 B=2 wget", "works"),
            ("test -f /tmp/x", "works"),
            ("[ -f /tmp/x ] && cat /tmp/x", "works"),
            ("exit 0", "works"),
            ("echo a | grep a", "works"),
            ("! grep -q x /y", "works"),
            ("command -v cat", "works"),
            ("wget x || exit 1", "works"),
            ("if wget x; then exit 0; else exit 1; fi", "works"),
            ("x=$(cat /y) && [ \"$x\" = ok ]", "works"),
            ("for i in 1 2; do cat $i; done", "works"),
            ("while ! wget x; do sleep 1; done", "works"),
            ("case $X in a) cat x;; esac", "works"),
            ("(cat x); { cat y; }", "works"),
            ("set -e; cat x; grep y z", "works"),
            ("sh -c 'wget x'", "works"),
            ("timeout 5 wget x", "works"),
            ("kill -0 1", "works"),
            ("eval 'cat x'", "works"),
            ("set -e; eval curl x || wget y", "works"),
            ("", "works"),
        ],
    );
}

#[test]
fn a_script_that_can_only_fail_for_want_of_a_program_cannot_work() {
    table(
        &debian,
        &[
            ("curl -f x", "lacks curl"),
            ("exec curl -f x", "lacks curl"),
            ("A=1 curl", "lacks curl"),
            ("curl x || exit 1", "lacks curl"),
            ("curl x && cat y", "lacks curl"),
            ("cat y && curl x", "lacks curl"),
            ("cat y; curl x", "lacks curl"),
            ("cat y | curl x", "lacks curl"),
            ("if curl x; then exit 0; else exit 1; fi", "lacks curl"),
            ("if ! curl x; then exit 1; fi", "lacks curl"),
            ("curl x; exit $?", "lacks curl"),
            ("set -e; curl x; echo ok", "lacks curl"),
            ("x=$(curl y) && [ \"$x\" = ok ]", "lacks curl"),
            ("until curl x; do sleep 1; done", "lacks curl"),
            (
                "while true; do curl x && break; sleep 1; done",
                "lacks curl",
            ),
            ("for i in 1 2; do curl $i; done", "lacks curl"),
            ("command -v curl && curl x", "lacks curl"),
            ("command curl x", "lacks curl"),
            ("timeout 5 curl x", "lacks curl"),
            ("sh -c 'curl x'", "lacks curl"),
            ("(curl x)", "lacks curl"),
            ("{ curl x; }", "lacks curl"),
            ("curl x || nc -z y || false", "lacks curl"),
            ("eval curl x", "lacks curl"),
            ("bash -c 'set -eo pipefail; curl x | cat'", "lacks curl"),
            ("exec curl x; echo ok", "lacks curl"),
        ],
    );
    for flags in ["-ec", "-euc", "-xc"] {
        assert_eq!(
            verdict(&["/bin/sh", flags, "curl x"], debian()),
            "lacks curl"
        );
    }
    assert_eq!(
        verdict(&["bash", "-o", "pipefail", "-c", "curl x | cat"], debian()),
        "lacks curl"
    );
    assert_eq!(
        verdict(&["sh", "-ec", "curl x; true"], debian()),
        "lacks curl"
    );
}

#[test]
fn a_missing_program_that_may_not_decide_leaves_doubt() {
    table(
        &debian,
        &[
            ("curl x; exit 0", "unknown"),
            ("curl x; cat y", "unknown"),
            ("curl x || true", "unknown"),
            ("curl x | grep ok", "unknown"),
            ("! curl x", "unknown"),
            ("curl x & wget y", "unknown"),
            ("x=$(curl y); [ \"$x\" = ok ]", "unknown"),
            ("if [ -f /x ]; then curl y; fi", "unknown"),
            ("test -f /x || curl y", "unknown"),
            ("for i in $LIST; do curl $i; done", "unknown"),
            ("case $X in a) curl y;; esac", "unknown"),
            ("set +e; curl x; cat y", "unknown"),
            // What is not followed.
            ("$CURL x", "unknown"),
            ("\"$HOME/probe\"", "unknown"),
            (". /etc/profile; curl x", "unknown"),
            ("PATH=/opt/bin:$PATH; curl x", "unknown"),
            ("PATH=/opt/bin curl x", "unknown"),
            ("export PATH=/opt/bin; curl x", "unknown"),
            ("cd /opt && ./probe", "unknown"),
            ("f() { curl x; }; f", "unknown"),
            ("cat <<E\nE", "unknown"),
            ("eval \"$X\"", "unknown"),
            ("trap x EXIT; curl y", "unknown"),
            ("env -i curl", "unknown"),
            ("exit 1", "unknown"),
            ("'", "unknown"),
        ],
    );
}

#[test]
fn a_shell_that_is_given_no_script_is_not_said_to_work() {
    // An option stands where the script is due: shells say so, and fail.
    assert_eq!(verdict(&["sh", "-c", "-x"], debian()), "unknown");
    assert_eq!(verdict(&["sh", "-c"], debian()), "unknown");
    assert_eq!(verdict(&["sh", "-x"], debian()), "works");
}

#[test]
fn a_login_shell_may_have_another_path() {
    assert_eq!(verdict(&["sh", "-lc", "curl x"], debian()), "unknown");
    assert_eq!(
        verdict(&["bash", "--login", "-c", "curl x"], debian()),
        "unknown"
    );
    assert_eq!(verdict(&["sh", "-lc", "/usr/bin/cat x"], debian()), "works");
    assert_eq!(
        verdict(&["sh", "-lc", "/usr/bin/curl x"], debian()),
        "lacks /usr/bin/curl"
    );
    assert_eq!(
        verdict(&["sh", "-c", "sh -lc true; cat x"], debian()),
        "works"
    );
}

#[test]
fn one_program_in_place_of_another_is_enough() {
    let finding = of_command(&["sh", "-c", "curl -f x || wget -q x"], debian());
    assert_eq!(finding.verdict, Verdict::Works);
    assert_eq!(finding.warnings.len(), 1, "{finding:?}");
    table(
        &debian,
        &[
            ("command -v curl >/dev/null && curl x || wget x", "works"),
            ("if command -v curl; then curl x; else wget x; fi", "works"),
            ("curl x || nc -z y", "lacks curl"),
        ],
    );
}

#[test]
fn busybox_may_carry_out_its_applets_without_a_file() {
    table(
        &alpine,
        &[
            ("wget x", "works"),
            ("nc -z x 1", "unknown"),
            ("curl x", "lacks curl"),
            ("[[ x", "unknown"),
        ],
    );
    // The shell of another image, copied alone.
    let alone = || contents(&["/bin/sh"]);
    table(
        &alone,
        &[
            ("nc -z x 1", "unknown"),
            ("curl x", "lacks curl"),
            ("printf x", "works"),
            ("echo x", "works"),
        ],
    );
    // bash and dash know no applets.
    assert_eq!(verdict(&["bash", "-c", "nc -z x 1"], debian()), "lacks nc");
    assert_eq!(
        verdict(&["dash", "-c", "pushd /x"], debian()),
        "lacks pushd"
    );
}

#[test]
fn a_script_without_an_interpreter_line_is_run_by_the_shell_alone() {
    let with = || {
        let mut found = contents(&["/usr/bin/sh", "/usr/bin/notes ! /usr/bin/notes is neither"]);
        found.executables.items[1].fault = Some(whittle_image::Fault::NotExecutable);
        found
    };
    assert_eq!(verdict(&["sh", "-c", "notes"], with()), "unknown");
    assert_eq!(verdict(&["notes"], with()), "lacks notes");
    // In other directories, where the report lists such files apart.
    let mut beside = contents(&["/usr/bin/sh", "/opt/notes %"]);
    let verdicts = |contents: &Contents| {
        [
            vec!["/opt/notes"],
            vec!["sh", "-c", "/opt/notes"],
            vec!["sh", "-c", "/opt/other"],
        ]
        .map(|command| verdict(&command, contents.clone()))
    };
    assert_eq!(
        verdicts(&beside),
        ["lacks /opt/notes", "unknown", "lacks /opt/other"]
    );
    beside.unmarked.omitted = 1;
    assert_eq!(
        verdicts(&beside),
        ["lacks /opt/notes", "unknown", "unknown"]
    );
}

#[test]
fn odd_input_ends() {
    let parts = [
        "a", "'", "\"", "$(", ")", "`", "${", "}", "((", "&&", "||", ";", ";;", "|", "&", "if",
        "then", "fi", "for", "in", "do", "done", "case", "esac", "<", ">", "<<", "\\", "\n", "#",
        "=", "é", "\0", "sh", "-c", "exec", "exit", "{", "!", "$", "eval", "timeout", "5",
    ];
    // A small generator: the same each time.
    let mut state: u64 = 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for _ in 0..3_000 {
        let script: String = (0..next() % 14)
            .map(|_| {
                let blank = if next() % 2 == 0 { " " } else { "" };
                format!("{}{blank}", parts[next() % parts.len()])
            })
            .collect();
        let words: Vec<&str> = script.split(' ').collect();
        verdict(&["sh", "-c", &script], debian());
        verdict(&words, alpine());
    }
    for deep in [
        "sh -c ",
        "timeout 5 ",
        "exec ",
        "eval ",
        "command ",
        "! ",
        "( ",
        "{ ",
    ] {
        verdict(&["sh", "-c", &(deep.repeat(2_000) + "a")], debian());
        let long = deep.repeat(2_000);
        verdict(&long.split(' ').collect::<Vec<_>>(), debian());
    }
}

#[test]
fn chains_within_chains_leave_the_stack_of_a_thread_alone() {
    let mut script = "cat".to_owned();
    while script.len() < 12_000 {
        script = format!("( {script}{} )", " &&a".repeat(150));
    }
    let judge = move || verdict(&["sh", "-c", &script], debian());
    let small = std::thread::Builder::new().stack_size(512 << 10);
    assert_eq!(small.spawn(judge).unwrap().join().unwrap(), "unknown");
}

#[test]
fn a_script_of_thousands_of_programs_is_not_followed_to_its_end() {
    let short = "a;".repeat(900);
    assert_eq!(verdict(&["sh", "-c", &short], debian()), "lacks a");
    for long in ["a;".repeat(5_000), "command -v a;".repeat(1_200)] {
        assert_eq!(verdict(&["sh", "-c", &long], debian()), "unknown");
    }
}

#[test]
fn a_script_is_judged_by_the_shell_that_sh_is() {
    let bash = || {
        contents(&[
            "/usr/bin/bash",
            "/usr/bin/sh -> /usr/bin/bash",
            "/usr/bin/cat",
        ])
    };
    let other = || contents(&["/usr/bin/sh", "/usr/bin/cat"]);
    let images: [&dyn Fn() -> Contents; 4] = [&debian, &alpine, &bash, &other];
    for (script, expected) in [
        // In dash the command runs in the background, and the script succeeds.
        (
            "curl x &>/dev/null",
            ["unknown", "lacks curl", "lacks curl", "unknown"],
        ),
        ("cat x &>/dev/null", ["works", "works", "works", "unknown"]),
        (
            "curl x >&/dev/null",
            ["unknown", "lacks curl", "lacks curl", "unknown"],
        ),
        ("cat x |& cat", ["unknown", "unknown", "works", "unknown"]),
        (
            "</dev/tcp/127.0.0.1/8080",
            ["lacks sh", "lacks sh", "works", "unknown"],
        ),
        (
            "echo x >/dev/tcp/$HOST/$PORT",
            ["lacks sh", "lacks sh", "works", "unknown"],
        ),
        (
            "{ echo x; } </dev/tcp/127.0.0.1/80",
            ["lacks sh", "lacks sh", "works", "unknown"],
        ),
        (
            "(exec 3<>/dev/tcp/a/1) && echo ok",
            ["lacks sh", "lacks sh", "works", "unknown"],
        ),
        (
            "exec 3<>/dev/tcp/a/1; echo x >&3",
            ["lacks sh", "lacks sh", "works", "unknown"],
        ),
        (
            "</dev/tcp/a/1 || cat x",
            ["works", "works", "works", "unknown"],
        ),
        (
            "set -o pipefail; cat x | cat",
            ["lacks sh", "works", "works", "unknown"],
        ),
        (
            "set -euo pipefail; cat x",
            ["lacks sh", "works", "works", "unknown"],
        ),
        ("set -E; cat x", ["works", "works", "works", "unknown"]),
        (
            "set -h; cat x",
            ["lacks sh", "lacks sh", "works", "unknown"],
        ),
        (
            "set -o errtrace; cat x",
            ["lacks sh", "lacks sh", "works", "unknown"],
        ),
        ("[[ -f /x ]]", ["lacks [[", "unknown", "unknown", "unknown"]),
        ("[ \"$X\" == y ]", ["lacks sh", "works", "works", "works"]),
        ("test a == b", ["lacks sh", "works", "works", "works"]),
        ("[ $X == y ]", ["works", "works", "works", "works"]),
        ("[ a = == ]", ["works", "works", "works", "works"]),
        (
            "[ -n \"$A\" -a \"$A\" == b ]",
            ["lacks sh", "works", "works", "works"],
        ),
        // A bad substitution ends the script.
        ("cat ${X//a/b}", ["unknown", "works", "works", "unknown"]),
        ("cat \"${X:0:1}\"", ["unknown", "works", "works", "unknown"]),
        ("cat ${X^^}", ["unknown", "unknown", "works", "unknown"]),
        ("cat ${!X}", ["unknown", "unknown", "works", "unknown"]),
        ("cat ${X[0]}", ["unknown", "unknown", "works", "unknown"]),
        (
            "cat ${#X} ${X:-a} ${X%%b*} ${X#a} ${1:+y} ${#} ${#-} ${10} ${@:-x} ${?}",
            ["works", "works", "works", "works"],
        ),
        ("printf -v X y", ["lacks sh", "works", "works", "unknown"]),
        ("printf -- '-%s' y", ["works", "works", "works", "works"]),
        ("wait -n", ["lacks sh", "works", "works", "unknown"]),
        (
            "declare X=1",
            ["lacks declare", "lacks declare", "works", "unknown"],
        ),
        ("exit -1", ["unknown", "unknown", "unknown", "unknown"]),
        ("exit 512", ["works", "works", "works", "works"]),
        (
            "source /etc/profile",
            ["lacks source", "unknown", "unknown", "unknown"],
        ),
        ("let x=1", ["lacks let", "works", "works", "unknown"]),
        (
            "pushd /",
            ["lacks pushd", "lacks pushd", "works", "unknown"],
        ),
        ("read -t 1 x", ["lacks sh", "works", "works", "unknown"]),
        ("read -r x", ["works", "works", "works", "works"]),
        ("type cat >/dev/null", ["works", "works", "works", "works"]),
        (
            "type curl >/dev/null 2>&1",
            ["lacks curl", "lacks curl", "lacks curl", "lacks curl"],
        ),
        (
            "type cat curl",
            ["lacks curl", "lacks curl", "lacks curl", "lacks curl"],
        ),
        ("type -t cat", ["lacks sh", "works", "works", "unknown"]),
        ("type if", ["works", "works", "works", "works"]),
        ("type curl || cat x", ["works", "works", "works", "works"]),
        (
            "curl x || return 1; echo ok",
            ["lacks curl", "lacks curl", "lacks curl", "unknown"],
        ),
        (
            "curl x || return 1 && curl || cat x",
            ["lacks curl", "lacks curl", "works", "works"],
        ),
        (
            "cat x || return 1; echo ok",
            ["works", "works", "works", "works"],
        ),
        // More than eight bits of a code do not count.
        (
            "curl x || exit 256",
            ["unknown", "unknown", "unknown", "unknown"],
        ),
        (
            "curl x || exit 257",
            ["lacks curl", "lacks curl", "lacks curl", "lacks curl"],
        ),
        (
            "local x=1; cat x",
            ["unknown", "unknown", "works", "unknown"],
        ),
        ("cat <<<x", ["unknown", "unknown", "unknown", "unknown"]),
        (
            "a=(1 2); cat x",
            ["unknown", "unknown", "unknown", "unknown"],
        ),
        (
            "f() { cat x; }; f",
            ["unknown", "unknown", "unknown", "unknown"],
        ),
        (
            "function f { cat x; }",
            ["unknown", "unknown", "unknown", "unknown"],
        ),
        (
            "time cat x",
            ["lacks time", "unknown", "unknown", "unknown"],
        ),
        ("(( 1 ))", ["unknown", "unknown", "unknown", "unknown"]),
        ("echo $'x'", ["unknown", "unknown", "unknown", "unknown"]),
    ] {
        let found = images.map(|image| verdict(&["sh", "-c", script], image()));
        assert_eq!(found, expected, "{script}");
    }
    // The shell itself is given the option.
    for (command, expected) in [
        (
            ["-o", "pipefail", "-c", "true"],
            ["lacks sh", "works", "works", "unknown"],
        ),
        (
            ["-euo", "pipefail", "-c", "true"],
            ["lacks sh", "works", "works", "unknown"],
        ),
    ] {
        let found = images.map(|image| verdict(&[&["sh"], &command[..]].concat(), image()));
        assert_eq!(found, expected, "{command:?}");
    }
    // Called by its own name, bash goes on behind a return.
    let script = "curl x || return 1; echo ok";
    assert_eq!(verdict(&["bash", "-c", script], debian()), "unknown");
    assert_eq!(verdict(&["dash", "-c", script], debian()), "lacks curl");
    assert_eq!(
        verdict(&["bash", "-o", "pipefail", "-c", "true"], debian()),
        "works"
    );
}

#[test]
fn what_a_shells_file_shows_counts_before_its_name() {
    use whittle_image::shell::{Shell, ShellFile};
    let with = |kind: Shell, pipefail: bool| {
        let mut found = contents(&["/bin/sh"]);
        found.executables.items[0].shell = Some(ShellFile { kind, pipefail });
        found
    };
    let command = ["sh", "-c", "set -o pipefail; true"];
    assert_eq!(verdict(&command, with(Shell::Dash, true)), "works");
    assert_eq!(verdict(&command, with(Shell::Dash, false)), "lacks sh");
    assert_eq!(verdict(&command, with(Shell::Bash, true)), "works");
    assert_eq!(verdict(&command, with(Shell::Busybox, false)), "lacks sh");
    assert_eq!(verdict(&command, with(Shell::Other, true)), "unknown");
    // Of dash alone nothing says which.
    let bare = || contents(&["/usr/bin/dash", "/usr/bin/sh -> /usr/bin/dash"]);
    assert_eq!(verdict(&command, bare()), "unknown");
    // Not a shell of POSIX, and a script.
    let toybox = || contents(&["/bin/toybox", "/bin/sh -> /bin/toybox"]);
    assert_eq!(verdict(&["sh", "-c", "true"], toybox()), "unknown");
    let script = || contents(&["/bin/sh # /bin/other"]);
    assert_eq!(verdict(&["sh", "-c", "true"], script()), "unknown");
}

#[test]
fn which_finds_what_is_in_path() {
    let with = || {
        let mut found = debian();
        found
            .executables
            .items
            .extend(contents(&["/usr/bin/which"]).executables.items);
        found
    };
    for (command, expected) in [
        (&["which", "curl"][..], "lacks curl"),
        (&["which", "cat"], "works"),
        (&["which", "cat", "curl"], "lacks curl"),
        (&["which", "-a", "curl"], "works"),
        (&["sh", "-c", "which curl >/dev/null"], "lacks curl"),
        (&["sh", "-c", "which cd"], "works"),
    ] {
        assert_eq!(verdict(command, with()), expected, "{command:?}");
    }
}

#[path = "real_tests.rs"]
mod real;
