use super::*;

fn parsed(words: &[&str]) -> Result<inspect::Options, String> {
    let words = ["whittle", "inspect"].iter().chain(words);
    match Arguments::try_parse_from(words)
        .map_err(|error| error.to_string())?
        .command
    {
        Command::Inspect(arguments) => arguments.options(),
        _ => unreachable!("it was asked for"),
    }
}

#[test]
fn the_definition_of_the_command_line_is_sound() {
    command().debug_assert();
}

#[test]
fn a_difference_a_tree_and_a_page_are_asked_for_alone() {
    assert_eq!(
        parsed(&["a", "--diff", "b", "-o", "yaml"])
            .unwrap()
            .diff
            .as_deref(),
        Some("b")
    );
    assert!(parsed(&["a", "--tree"]).unwrap().tree);
    for words in [
        &["a", "--diff", "b", "--enforce", "NoShell"][..],
        &["a", "--diff", "b", "--tree"],
        &["a", "--exit-code"],
        &["a", "--tree", "-o", "json"],
        &["a", "--diff", "b", "-o", "html"],
        &["a", "--all-platforms", "-o", "html"],
    ] {
        assert!(parsed(words).is_err(), "{words:?}");
    }
}

#[test]
fn commands_of_images_have_examples() {
    for name in ["inspect", "minimize", "probes"] {
        let mut command = command();
        let help = command
            .find_subcommand_mut(name)
            .unwrap()
            .render_long_help();
        let help = help.to_string();
        assert!(help.contains(&format!("\n  whittle {name} ")), "{help}");
    }
}
