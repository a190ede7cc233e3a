use std::collections::HashSet;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::{Color, Modifier};

use super::model::{Model, ROWS};
use super::state::{Key, Pane, State};
use super::view::draw;
use whittle_image::fixtures::Tar;
use whittle_image::{Image, ImageConfig, LayerSource, Limits};

pub(super) fn layers() -> Vec<Vec<u8>> {
    vec![
        Tar::new()
            .folder("etc", 0o755)
            .file("etc/passwd", 0o644, &[b'x'; 1200])
            .file("usr/lib/libc.so.6", 0o755, &[1; 1_900_000])
            .file("usr/share/doc/readme", 0o644, &[1; 40_000])
            .symlink("lib", "usr/lib")
            .bytes(),
        Tar::new()
            .folder("etc", 0o755)
            .file("etc/passwd", 0o600, &[b'y'; 1300])
            .file("usr/share/doc/.wh.readme", 0o644, b"")
            .file("srv/app", 0o755, &[7; 3_000_000])
            .file("srv/\u{1b}[31mred\u{202e}", 0o644, b"hostile")
            .bytes(),
    ]
}

fn model_of(layers: &[Vec<u8>], limits: Limits) -> Model {
    let mut image = Image::new(limits);
    for layer in layers {
        image
            .add_layer(&layer[..], &LayerSource::default())
            .unwrap();
    }
    let config = ImageConfig {
        os: "linux".into(),
        architecture: "amd64".into(),
        instructions: vec![
            "FROM debian:12".into(),
            "COPY --from=build /out /srv".into(),
        ],
        ..ImageConfig::default()
    };
    Model::new("app:1.2", image, &config)
}

fn model() -> Model {
    model_of(
        &layers(),
        Limits {
            steps: 1000,
            ..Limits::default()
        },
    )
}

fn pressed(model: &Model, keys: &[Key]) -> State {
    let mut state = State::new(model);
    for key in keys {
        state.press(*key, model);
    }
    state
}

fn names(state: &State, model: &Model) -> Vec<String> {
    let rows = state.rows.rows.iter();
    rows.map(|row| format!("{}{}", "  ".repeat(row.depth), model.name(row.id)))
        .collect()
}

fn terminal(state: &mut State, model: &Model, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, state, model)).unwrap();
    terminal
}

fn screen(state: &mut State, model: &Model, width: u16, height: u16) -> String {
    terminal(state, model, width, height).backend().to_string()
}

#[test]
fn the_whole_image_is_shown_first_its_layers_beside_it() {
    let model = model();
    insta::assert_snapshot!(screen(&mut pressed(&model, &[]), &model, 110, 16));
}

#[test]
fn a_layer_shows_what_it_added_changed_and_removed() {
    let model = model();
    let keys = [
        Key::Down,
        Key::Down,
        Key::Tab,
        Key::Down,
        Key::Enter,
        Key::End,
        Key::Enter,
        Key::Home,
    ];
    let mut state = pressed(&model, &keys);
    insta::assert_snapshot!(screen(&mut state, &model, 110, 16));
    let shown = terminal(&mut state, &model, 110, 16);
    let buffer = shown.backend().buffer();
    let line = |text: &str| {
        (0..16).find(|y| {
            let row: String = (47..110).map(|x| buffer[(x, *y)].symbol()).collect();
            row.contains(text)
        })
    };
    let color = |text: &str| buffer[(47, line(text).unwrap())].fg;
    assert_eq!(color("+"), Color::Green);
    assert_eq!(color("~"), Color::Yellow);
    assert!(
        buffer[(47, line("/").unwrap())]
            .modifier
            .contains(Modifier::REVERSED)
    );
}

#[test]
fn removed_files_are_red_and_have_the_bytes_that_they_hide() {
    let model = model();
    let mut state = pressed(
        &model,
        &[
            Key::End,
            Key::Char('/'),
            Key::Char('R'),
            Key::Char('e'),
            Key::Char('a'),
        ],
    );
    assert_eq!(
        names(&state, &model),
        ["/", "  usr", "    share", "      doc", "        readme"]
    );
    let shown = terminal(&mut state, &model, 110, 16);
    let buffer = shown.backend().buffer();
    let row: String = (47..90).map(|x| buffer[(x, 6)].symbol()).collect();
    assert!(row.contains("- 39.1 KiB"), "{row}");
    assert_eq!(buffer[(50, 6)].fg, Color::Red);
}

#[test]
fn directories_open_and_close_and_left_goes_to_the_one_above() {
    let model = model();
    let mut state = pressed(&model, &[Key::Tab]);
    assert_eq!(
        names(&state, &model),
        ["/", "  srv", "  usr", "  etc", "  lib"]
    );
    for key in [
        Key::Down,
        Key::Down,
        Key::Right,
        Key::Down,
        Key::Enter,
        Key::Down,
    ] {
        state.press(key, &model);
    }
    assert_eq!(
        names(&state, &model)[2..6],
        ["  usr", "    lib", "      libc.so.6", "    share"]
    );
    let chosen = |state: &State| model.name(state.chosen().unwrap().id);
    assert_eq!(chosen(&state), "libc.so.6");
    state.press(Key::Left, &model);
    assert_eq!(chosen(&state), "lib");
    state.press(Key::Left, &model);
    assert_eq!(names(&state, &model)[3..5], ["    lib", "    share"]);
    for _ in 0..3 {
        state.press(Key::Left, &model);
    }
    assert_eq!(chosen(&state), "/");
    // The root stays open; from there the way leads to the layers.
    state.press(Key::Enter, &model);
    assert_eq!(names(&state, &model).len(), 5);
    state.press(Key::Left, &model);
    assert_eq!(state.pane, Pane::Layers);
}

#[test]
fn a_filter_is_typed_kept_and_ended() {
    let model = model();
    let mut state = pressed(&model, &[Key::Char('/'), Key::Char('q'), Key::Char('x')]);
    assert!(!state.is_over(), "q is a letter while a filter is typed");
    assert_eq!(names(&state, &model), ["/"]);
    let text = screen(&mut state, &model, 110, 16);
    assert!(
        text.contains("no name has this text") && text.contains("/qx"),
        "{text}"
    );
    for key in [
        Key::Backspace,
        Key::Backspace,
        Key::Char('p'),
        Key::Char('a'),
        Key::Enter,
    ] {
        state.press(key, &model);
    }
    assert_eq!(names(&state, &model), ["/", "  etc", "    passwd"]);
    state.press(Key::Escape, &model);
    assert_eq!(names(&state, &model).len(), 5);
    assert!(state.filter.is_empty() && !state.is_over());
    state.press(Key::Char('q'), &model);
    assert!(state.is_over());
}

#[test]
fn names_of_strangers_steer_no_terminal() {
    let model = model();
    let keys = [Key::Tab, Key::Down, Key::Right, Key::Down, Key::Down];
    let text = screen(&mut pressed(&model, &keys), &model, 110, 16);
    assert!(text.contains("\\u{1b}[31mred\\u{202e}"), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'));
}

#[test]
fn help_covers_what_is_below_and_any_key_closes_it() {
    let model = model();
    let mut state = pressed(&model, &[Key::Char('?')]);
    insta::assert_snapshot!(screen(&mut state, &model, 80, 18));
    state.press(Key::Char('q'), &model);
    assert!(!state.is_over() && !state.help);
}

#[test]
fn small_terminals_show_one_side_and_tiny_ones_say_so() {
    let model = model();
    let mut state = pressed(&model, &[]);
    let text = screen(&mut state, &model, 60, 12);
    assert!(
        text.contains("made by") && !text.contains("Files of"),
        "{text}"
    );
    state.press(Key::Tab, &model);
    let text = screen(&mut state, &model, 60, 12);
    assert!(
        !text.contains("made by") && text.contains("Files of"),
        "{text}"
    );
    for (width, height) in [(20, 4), (1, 1), (24, 6), (300, 100)] {
        screen(&mut state, &model, width, height);
    }
    assert!(screen(&mut state, &model, 23, 9).contains("the terminal is too"));
}

#[test]
fn long_trees_scroll_with_the_chosen_row_in_sight_and_are_bounded() {
    let mut tar = Tar::new();
    for number in 0..300 {
        tar = tar.file(&format!("d/{number:03}"), 0o644, b"1");
    }
    let model = model_of(&[tar.bytes()], Limits::default());
    let mut state = pressed(&model, &[Key::Tab, Key::Down, Key::Enter, Key::End]);
    let text = screen(&mut state, &model, 100, 20);
    assert!(text.contains("299") && !text.contains(" 150"), "{text}");
    state.press(Key::PageUp, &model);
    state.press(Key::PageUp, &model);
    let text = screen(&mut state, &model, 100, 20);
    assert!(!text.contains("299"), "{text}");
    let open = HashSet::new();
    let rows = model.rows(&model.shown(0), &open, "");
    assert!(!rows.cut && rows.rows.len() < ROWS);
}

#[test]
fn an_image_without_layers_has_a_tree_of_nothing() {
    let model = model_of(&[], Limits::default());
    let mut state = pressed(
        &model,
        &[
            Key::Down,
            Key::Down,
            Key::Tab,
            Key::Down,
            Key::Enter,
            Key::Left,
        ],
    );
    let text = screen(&mut state, &model, 100, 12);
    assert!(text.contains("nothing"), "{text}");
}

#[test]
fn what_is_not_all_says_so() {
    let model = model_of(
        &layers(),
        Limits {
            steps: 2,
            ..Limits::default()
        },
    );
    let text = screen(&mut pressed(&model, &[]), &model, 110, 12);
    assert!(text.contains("INCOMPLETE"), "{text}");
}
