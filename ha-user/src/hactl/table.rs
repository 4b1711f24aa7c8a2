//! Aligned columns.

use std::fmt::Write as _;

/// Rows of cells; the first row is the heading.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(heading: &[&str]) -> Self {
        Self {
            rows: vec![heading.iter().map(|cell| (*cell).to_owned()).collect()],
        }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Two spaces between columns, none at the end of a line. `paint` decorates a cell that was padded.
    pub(super) fn render(&self, paint: impl Fn(usize, usize, &str) -> String) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                self.rows
                    .iter()
                    .filter_map(|row| row.get(column))
                    .map(|cell| cell.chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            for (column, cell) in row.iter().enumerate() {
                let last = column + 1 == row.len();
                let painted = paint(index, column, cell);
                let fill = if last {
                    0
                } else {
                    widths[column] - cell.chars().count() + 2
                };
                // Writing to a string does not fail.
                let _ = write!(text, "{painted}{:fill$}", "");
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["A", "LONG", "C"]);
        table.row(vec!["xyz".into(), "1".into(), "end".into()]);
        table.row(vec!["ü".into(), "22222".into(), "".into()]);
        assert_eq!(
            table.render(|_, _, cell| cell.to_owned()),
            "A    LONG   C\nxyz  1      end\nü    22222  \n"
        );
    }
}
