//! A table in the manner of kubectl: columns of their widest cell, three spaces between, nothing cut.

/// The table; a cell is plain text.
pub(super) fn text(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells
            .chain([head[column].chars().count()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let mut text = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 3));
        }
        text.trim_end().to_owned() + "\n"
    };
    let head = line(head.to_vec());
    let rows = rows
        .iter()
        .map(|row| line(row.iter().map(String::as_str).collect()));
    head + &rows.collect::<String>()
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["a".into(), "bcd".into()],
            vec!["efghi".into(), String::new()],
        ];
        let text = super::text(&["X", "LONG"], &rows);
        assert_eq!(text, "X       LONG\na       bcd\nefghi\n");
    }
}
