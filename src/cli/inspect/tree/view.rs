//! A state as a picture on a terminal.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::model::{Mark, Model, Row};
use super::state::{Pane, State};
use whittle_image::display_size;

/// Narrower than this, one side is shown at a time.
const NARROW: u16 = 80;
/// Smaller than this, nothing can be shown.
const LEAST: (u16, u16) = (24, 6);

const HELP: [&str; 12] = [
    "up, down, j, k   choose",
    "page up, down    a page further",
    "home, end        first, last",
    "tab              layers or files",
    "enter, space     open or close a directory",
    "right, left      open; close, or go to the directory above",
    "/                show only names with a text",
    "esc              show all again",
    "q, ctrl-c        quit",
    "",
    "+ added   ~ changed   - removed by the chosen layer",
    "hidden: bytes that later layers remove or replace",
];

pub(super) fn draw(frame: &mut Frame<'_>, state: &mut State, model: &Model) {
    let all = frame.area();
    if all.width < LEAST.0 || all.height < LEAST.1 {
        frame.render_widget(Paragraph::new("the terminal is too small"), all);
        return;
    }
    let rows = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(1),
        Constraint::Length(1),
    ]);
    let [head, middle, detail, foot] = rows.areas(all);
    title(frame, head, model);
    match (all.width < NARROW, state.pane) {
        (true, Pane::Layers) => layers(frame, middle, state, model),
        (true, Pane::Files) => files(frame, middle, state, model),
        (false, _) => {
            let sides = Layout::horizontal([Constraint::Percentage(42), Constraint::Fill(1)]);
            let [left, right] = sides.areas(middle);
            layers(frame, left, state, model);
            files(frame, right, state, model);
        }
    }
    let said = match state.pane {
        Pane::Files => state.chosen().map(|row| model.detail(row.id)),
        Pane::Layers => Some(match state.layer {
            0 => "the files of the image, as a container sees them".into(),
            layer => format!("layer {layer}: {}", model.layers[layer - 1].made_by),
        }),
    };
    frame.render_widget(Paragraph::new(said.unwrap_or_default()), detail);
    footer(frame, foot, state, model);
    if state.help {
        help(frame, all);
    }
}

fn title(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let share = match model.bytes + model.wasted {
        0 => 0.0,
        all => model.wasted as f64 * 100.0 / all as f64,
    };
    let text = format!(
        "{}  {} in files, {} hidden ({share:.1} %)",
        model.title,
        size(model.bytes),
        size(model.wasted)
    );
    let bold = Style::new().add_modifier(Modifier::BOLD);
    frame.render_widget(Paragraph::new(text).style(bold), area);
}

fn footer(frame: &mut Frame<'_>, area: Rect, state: &State, model: &Model) {
    let faint = Style::new().add_modifier(Modifier::DIM);
    let line = match (state.typing, state.filter.is_empty(), state.rows.cut) {
        (true, ..) => Line::from(format!("/{}\u{2588}", state.filter)),
        (_, false, _) => Line::styled(format!("/{}  esc: all again", state.filter), faint),
        (.., true) => Line::styled(
            format!(
                "only the first {} entries are shown: / finds others",
                super::model::ROWS
            ),
            faint,
        ),
        _ if !model.note.is_empty() => Line::from(model.note.clone()),
        _ => Line::styled(
            "tab layers/files  enter open  / filter  ? help  q quit",
            faint,
        ),
    };
    frame.render_widget(Paragraph::new(line), area);
}

fn block(title: String, focused: bool) -> Block<'static> {
    let style = match focused {
        true => Style::new().fg(Color::Cyan),
        false => Style::new().add_modifier(Modifier::DIM),
    };
    Block::bordered().title(title).border_style(style)
}

/// Moves the first row that is seen, so that the chosen one is among them.
fn follow(first: &mut usize, chosen: usize, seen: usize) {
    *first = (*first)
        .min(chosen)
        .max((chosen + 1).saturating_sub(seen.max(1)));
}

fn chosen(style: Style, is: bool, focused: bool) -> Style {
    match (is, focused) {
        (true, true) => style.add_modifier(Modifier::REVERSED),
        (true, false) => style.add_modifier(Modifier::BOLD),
        _ => style,
    }
}

fn layers(frame: &mut Frame<'_>, area: Rect, state: &mut State, model: &Model) {
    let focused = state.pane == Pane::Layers;
    let block = block("Layers: bytes, hidden, made by".into(), focused);
    let inner = block.inner(area);
    let seen = usize::from(inner.height);
    follow(&mut state.first_layer, state.layer, seen);
    let all = (0..=model.layers.len()).skip(state.first_layer).take(seen);
    let lines = all.map(|index| {
        let text = match index {
            0 => format!("    {:>9} {:>9}  all files", size(model.bytes), ""),
            index => {
                let layer = &model.layers[index - 1];
                let wasted = match layer.wasted {
                    0 => "-".into(),
                    bytes => size(bytes),
                };
                format!(
                    "{index:>3} {:>9} {wasted:>9}  {}",
                    size(layer.bytes),
                    layer.made_by
                )
            }
        };
        let wasteful = index > 0 && model.layers[index - 1].wasted > 0;
        let style = match wasteful {
            true => Style::new().fg(Color::Yellow),
            false => Style::new(),
        };
        let text = fitted(&text, usize::from(inner.width));
        Line::styled(text, chosen(style, index == state.layer, focused))
    });
    let lines: Vec<Line<'_>> = lines.collect();
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn files(frame: &mut Frame<'_>, area: Rect, state: &mut State, model: &Model) {
    let focused = state.pane == Pane::Files;
    let title = match state.layer {
        0 => "Files of the image".to_owned(),
        layer => format!("What layer {layer} did"),
    };
    let block = block(title, focused);
    let inner = block.inner(area);
    let seen = usize::from(inner.height);
    state.page = seen.max(1);
    follow(&mut state.first, state.cursor, seen);
    let rows = state.rows.rows.iter().enumerate();
    let lines = rows.skip(state.first).take(seen).map(|(index, row)| {
        let style = chosen(colored(row.mark), index == state.cursor, focused);
        let text = fitted(&line(row, state.layer, model), usize::from(inner.width));
        Line::from(Span::styled(text, style))
    });
    let mut lines: Vec<Line<'_>> = lines.collect();
    if state.rows.rows.len() <= 1 {
        lines.push(Line::from(match state.filter.is_empty() {
            true => "  nothing",
            false => "  no name has this text",
        }));
    }
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn line(row: &Row, layer: usize, model: &Model) -> String {
    let sign = match row.mark {
        Mark::Plain => ' ',
        Mark::Added => '+',
        Mark::Changed => '~',
        Mark::Removed => '-',
    };
    let turn = match (row.folder, row.open) {
        (false, _) => "  ",
        (true, true) => "\u{25be} ",
        (true, false) => "\u{25b8} ",
    };
    let from = match (layer, row.folder, model.layer(row.id)) {
        (0, false, Some(layer)) => format!("{layer:>3} "),
        (0, ..) => "    ".into(),
        _ => String::new(),
    };
    format!(
        "{sign}{:>9} {from} {}{turn}{}",
        size(row.bytes),
        "  ".repeat(row.depth.min(40)),
        model.name(row.id)
    )
}

fn colored(mark: Mark) -> Style {
    match mark {
        Mark::Plain => Style::new(),
        Mark::Added => Style::new().fg(Color::Green),
        Mark::Changed => Style::new().fg(Color::Yellow),
        Mark::Removed => Style::new().fg(Color::Red),
    }
}

/// Filled up with spaces, so that the whole row is marked.
fn fitted(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(Line::from(text).width());
    format!("{text}{}", " ".repeat(missing))
}

fn help(frame: &mut Frame<'_>, all: Rect) {
    let height = (HELP.len() as u16 + 2).min(all.height);
    let width = 64.min(all.width);
    let area = Rect {
        x: (all.width - width) / 2,
        y: (all.height - height) / 2,
        width,
        height,
    };
    let lines: Vec<Line<'_>> = HELP.into_iter().map(Line::from).collect();
    let block = Block::bordered().title("Keys: any key closes this");
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn size(bytes: u64) -> String {
    display_size(i64::try_from(bytes).unwrap_or(i64::MAX))
}
