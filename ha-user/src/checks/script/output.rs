//! What a script prints: the last lines of it.

use crate::checks::words;

/// Lines that are kept.
const LINES: usize = 20;
/// Bytes that are kept.
const BYTES: usize = 4 * 1024;

/// The end of an output.
#[derive(Debug, Default)]
pub(super) struct Tail {
    bytes: Vec<u8>,
    /// Whether there was more before.
    cut: bool,
    /// How much there was.
    pub(super) total: usize,
}

impl Tail {
    /// Takes what came next.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.total = self.total.saturating_add(bytes.len());
        let useful = &bytes[bytes.len().saturating_sub(BYTES)..];
        self.bytes.extend_from_slice(useful);
        let surplus = self.bytes.len().saturating_sub(BYTES);
        self.cut |= surplus > 0 || useful.len() < bytes.len();
        self.bytes.drain(..surplus);
    }

    /// The last lines, without control characters. Of one that was cut in the middle its end is shown only if there
    /// is no other.
    pub(super) fn lines(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.bytes);
        let mut lines: Vec<String> = text
            .split(['\n', '\r'])
            .skip(usize::from(self.cut))
            .map(words::clean)
            .filter(|line| !line.is_empty())
            .collect();
        if lines.is_empty() {
            lines.extend(Some(words::clean(&text)).filter(|line| !line.is_empty()));
        }
        lines.split_off(lines.len().saturating_sub(LINES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept() {
        let mut tail = Tail::default();
        assert!(tail.lines().is_empty());
        for number in 0..100 {
            tail.push(format!("line {number}\r\n").as_bytes());
        }
        let lines = tail.lines();
        assert_eq!(lines.len(), LINES);
        assert_eq!(
            (lines[0].as_str(), lines[19].as_str()),
            ("line 80", "line 99")
        );
        tail.push(b"un");
        tail.push(b"finished\x1b[0m");
        assert_eq!(tail.lines().last().unwrap(), "unfinished [0m");
    }

    #[test]
    fn memory_is_bounded() {
        let mut tail = Tail::default();
        for _ in 0..1_000 {
            tail.push(&[b'x'; 10_000]);
            assert!(tail.bytes.len() <= BYTES);
        }
        assert_eq!(tail.total, 10_000_000);
        let lines = tail.lines();
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with("xxx"));
        tail.push(b"\nthe end\n");
        assert_eq!(tail.lines(), ["the end"]);
    }
}
