//! The text of /proc/mdstat, field by field.

/// An array.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Array {
    /// As `md0`.
    pub(super) name: String,
    /// `active`; else it is `inactive`.
    pub(super) active: bool,
    /// Members that the kernel took out because of errors.
    pub(super) faulty: Vec<String>,
    /// How many members there should be, and how many there are; `None` of a level without redundancy.
    pub(super) members: Option<(u32, u32)>,
    /// What is done to it.
    pub(super) work: Option<Work>,
}

/// What the kernel does to an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Work {
    /// `recovery`, `resync`, `reshape` or `check`.
    pub(super) kind: String,
    /// As `12.6%`, or why it waits.
    pub(super) progress: String,
}

impl Array {
    /// How many members are missing.
    pub(super) fn missing(&self) -> u32 {
        self.members
            .map_or(0, |(wanted, there)| wanted.saturating_sub(there))
    }
}

/// All arrays.
pub(super) fn parse(text: &str) -> Vec<Array> {
    let mut arrays: Vec<Array> = Vec::new();
    // What is indented belongs to the array above.
    let mut open = false;
    for line in text.lines() {
        if line.starts_with(char::is_whitespace) {
            if let Some(array) = arrays.last_mut().filter(|_| open) {
                detail(array, line);
            }
            continue;
        }
        let array = headline(line);
        open = array.is_some() || open && line.is_empty();
        arrays.extend(array);
    }
    arrays
}

/// As `md0 : active raid1 sdb1[1] sda1[0](F)`. Other lines that have a colon are of `Personalities` and
/// `unused devices`.
fn headline(line: &str) -> Option<Array> {
    let (name, rest) = line.split_once(" : ")?;
    let mut words = rest.split_whitespace();
    let active = match words.next()? {
        "active" => true,
        "inactive" => false,
        // A kernel that says something else says nothing good.
        _ if name.starts_with("md") => false,
        _ => return None,
    };
    let faulty = words
        .filter(|word| word.ends_with("(F)"))
        .filter_map(|word| word.split('[').next())
        .map(str::to_owned)
        .collect();
    Some(Array {
        name: name.trim().to_owned(),
        active,
        faulty,
        ..Array::default()
    })
}

fn detail(array: &mut Array, line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    for pair in words.windows(2) {
        // As `[2/1] [U_]`.
        if let (Some(members), true) = (members(pair[0]), is_map(pair[1])) {
            array.members = Some(members);
        }
    }
    // As `[>....]  recovery = 12.6% (37043392/292945152) finish=127.5min speed=33440K/sec`, or `resync=DELAYED`.
    for (index, word) in words.iter().enumerate() {
        let (kind, progress) = match word.split_once('=') {
            Some(("", "")) => continue,
            Some((kind, progress)) => (kind, progress),
            None if words.get(index + 1) == Some(&"=") => {
                (*word, words.get(index + 2).copied().unwrap_or_default())
            }
            None => continue,
        };
        if matches!(kind, "recovery" | "resync" | "reshape" | "check") {
            array.work = Some(Work {
                kind: kind.to_owned(),
                progress: progress.to_owned(),
            });
        }
    }
}

/// As `[2/1]`.
fn members(word: &str) -> Option<(u32, u32)> {
    let inner = word.strip_prefix('[')?.strip_suffix(']')?;
    let (wanted, there) = inner.split_once('/')?;
    Some((wanted.parse().ok()?, there.parse().ok()?))
}

/// As `[U_]`.
fn is_map(word: &str) -> bool {
    let inner = word
        .strip_prefix('[')
        .and_then(|word| word.strip_suffix(']'));
    inner.is_some_and(|inner| !inner.is_empty() && inner.chars().all(|c| matches!(c, 'U' | '_')))
}
