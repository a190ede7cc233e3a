//! What is shown and chosen, and what each key makes of it.

use std::collections::HashSet;

use super::model::{Model, Row, Rows, Shown};
use whittle_image::NodeId;

/// Rows that a page is, until the view has said how many it shows.
const PAGE: usize = 20;
/// Characters of a filter.
const FILTER: usize = 100;

/// What can be pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Tab,
    Escape,
    Backspace,
    Char(char),
}

/// The side that keys go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pane {
    Layers,
    Files,
}

/// Where somebody is.
pub(super) struct State {
    pub(super) pane: Pane,
    /// The layer, from 1; 0: the whole image.
    pub(super) layer: usize,
    pub(super) rows: Rows,
    /// The chosen row.
    pub(super) cursor: usize,
    /// The first rows that are seen; the view keeps the chosen ones among those.
    pub(super) first: usize,
    pub(super) first_layer: usize,
    /// Rows that are seen at once.
    pub(super) page: usize,
    pub(super) filter: String,
    /// True while a filter is typed.
    pub(super) typing: bool,
    pub(super) help: bool,
    open: HashSet<NodeId>,
    shown: Shown,
    over: bool,
}

impl State {
    pub(super) fn new(model: &Model) -> Self {
        let mut state = Self {
            pane: Pane::Layers,
            layer: 0,
            rows: Rows::default(),
            cursor: 0,
            first: 0,
            first_layer: 0,
            page: PAGE,
            filter: String::new(),
            typing: false,
            help: false,
            open: HashSet::new(),
            shown: Shown::Whole,
            over: false,
        };
        state.refresh(model);
        state
    }

    /// True once somebody has seen enough.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// The chosen entry.
    pub(super) fn chosen(&self) -> Option<&Row> {
        self.rows.rows.get(self.cursor)
    }

    /// Does what a key stands for.
    pub(super) fn press(&mut self, key: Key, model: &Model) {
        if self.help {
            self.help = false;
            return;
        }
        if self.typing {
            self.typed(key, model);
            return;
        }
        match (key, self.pane) {
            (Key::Char('q'), _) => self.over = true,
            (Key::Char('?'), _) => self.help = true,
            (Key::Char('/'), _) => {
                self.pane = Pane::Files;
                self.typing = true;
            }
            (Key::Escape, _) if !self.filter.is_empty() => {
                self.filter.clear();
                self.refresh(model);
            }
            (Key::Tab, Pane::Layers) => self.pane = Pane::Files,
            (Key::Tab, Pane::Files) => self.pane = Pane::Layers,
            (key, Pane::Layers) => self.layers(key, model),
            (key, Pane::Files) => self.files(key, model),
        }
    }

    fn typed(&mut self, key: Key, model: &Model) {
        match key {
            Key::Enter | Key::Tab | Key::Down | Key::Up => {
                self.typing = false;
                return;
            }
            Key::Escape => {
                self.typing = false;
                self.filter.clear();
            }
            Key::Backspace => {
                self.filter.pop();
            }
            Key::Char(c) if !c.is_control() && self.filter.chars().count() < FILTER => {
                self.filter.push(c);
            }
            _ => return,
        }
        self.refresh(model);
    }

    fn layers(&mut self, key: Key, model: &Model) {
        let last = model.layers.len();
        let layer = match key {
            Key::Up | Key::Char('k') => self.layer.saturating_sub(1),
            Key::Down | Key::Char('j') => (self.layer + 1).min(last),
            Key::Home | Key::PageUp => 0,
            Key::End | Key::PageDown => last,
            Key::Enter | Key::Right => {
                self.pane = Pane::Files;
                return;
            }
            _ => return,
        };
        if layer != self.layer {
            self.layer = layer;
            self.shown = model.shown(layer);
            self.open.clear();
            (self.cursor, self.first) = (0, 0);
            self.refresh(model);
        }
    }

    fn files(&mut self, key: Key, model: &Model) {
        let last = self.rows.rows.len().saturating_sub(1);
        match key {
            Key::Up | Key::Char('k') => self.cursor = self.cursor.saturating_sub(1),
            Key::Down | Key::Char('j') => self.cursor = (self.cursor + 1).min(last),
            Key::PageUp => self.cursor = self.cursor.saturating_sub(self.page),
            Key::PageDown => self.cursor = (self.cursor + self.page).min(last),
            Key::Home => self.cursor = 0,
            Key::End => self.cursor = last,
            Key::Enter | Key::Char(' ') => self.turn(None, model),
            Key::Right => self.turn(Some(true), model),
            Key::Left => self.left(model),
            _ => {}
        }
    }

    /// Opens or closes the chosen directory; the root is always open.
    fn turn(&mut self, open: Option<bool>, model: &Model) {
        let Some(row) = self
            .chosen()
            .copied()
            .filter(|row| row.folder && row.depth > 0)
        else {
            return;
        };
        match open.unwrap_or(!row.open) {
            true => self.open.insert(row.id),
            false => self.open.remove(&row.id),
        };
        self.refresh(model);
    }

    /// Closes the chosen directory, or goes to the one that holds what is chosen.
    fn left(&mut self, model: &Model) {
        let Some(row) = self.chosen().copied() else {
            return;
        };
        if row.open && row.depth > 0 && self.filter.is_empty() {
            self.turn(Some(false), model);
            return;
        }
        let above = &self.rows.rows[..self.cursor];
        match above.iter().rposition(|other| other.depth < row.depth) {
            Some(parent) => self.cursor = parent,
            None => self.pane = Pane::Layers,
        }
    }

    /// The rows anew, with the same entry chosen where it is still there.
    fn refresh(&mut self, model: &Model) {
        let chosen = self.chosen().map(|row| row.id);
        self.rows = model.rows(&self.shown, &self.open, &self.filter);
        let rows = &self.rows.rows;
        let same = rows.iter().position(|row| Some(row.id) == chosen);
        self.cursor = same.unwrap_or_else(|| self.cursor.min(rows.len().saturating_sub(1)));
    }
}
