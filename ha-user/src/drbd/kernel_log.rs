//! What DRBD has written to the kernel's log: after a split brain it only stands alone, and the log says why.

use std::{fs::File, io::Read as _};

use rustix::fs::{Mode, OFlags, open};

use super::Report;

const KERNEL_LOG: &str = "/dev/kmsg";
/// Bytes of the longest record.
const RECORD: usize = 8_192;
/// Records that are read at most; the kernel keeps fewer.
const RECORDS: usize = 200_000;

/// Whether the kernel's log says that a resource stands alone after a split brain. `None`: the log cannot be read.
/// Reading it takes milliseconds.
pub(crate) fn has_split_brain(resource: &str, report: &Report) -> Option<bool> {
    let minors: Vec<&str> = report.devices.iter().map(|one| &*one.minor).collect();
    let records = records()?;
    Some(told(records.iter().map(String::as_str), resource, &minors))
}

/// Of several resources' records, those of one decide, and of those the last.
fn told<'a>(records: impl Iterator<Item = &'a str>, resource: &str, minors: &[&str]) -> bool {
    // `block drbd0: ` in 8.4, `drbd r0/0 drbd0 peer: ` in 9; of the whole resource `drbd r0: ` and `drbd r0 peer: `.
    let ours = |record: &str| {
        let mut words = record.split([' ', ':', '/']);
        words.any(|word| {
            word == resource
                || word
                    .strip_prefix("drbd")
                    .is_some_and(|minor| minors.contains(&minor))
        })
    };
    let mut split = false;
    for record in records.filter(|record| record.contains("drbd") && ours(record)) {
        if record.contains("Split-Brain detected") {
            split = !record.contains("automatically solved");
        } else if ["-> Connected", "-> Established", "Resync done"]
            .iter()
            .any(|words| record.contains(words))
        {
            split = false;
        }
    }
    split
}

fn records() -> Option<Vec<String>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mut file = File::from(open(KERNEL_LOG, flags, Mode::empty()).ok()?);
    let mut buffer = vec![0; RECORD];
    let mut records = Vec::new();
    for _ in 0..RECORDS {
        match file.read(&mut buffer) {
            Ok(length) if length > 0 => {
                let record = buffer.get(..length).unwrap_or_default();
                records.push(String::from_utf8_lossy(record).into_owned());
            }
            // Overwritten while it was being read: it goes on behind that.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
            Ok(_) | Err(_) => break,
        }
    }
    Some(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernels write them (from their sources; the guest's tests meet the real 8.4.11).
    const EIGHT: &str =
        "6,900,95000000,-;block drbd0: Split-Brain detected but unresolved, dropping connection!";
    const NINE: &str = "6,901,95000000,-;drbd r0/0 drbd0 beta: Split-Brain detected but unresolved, dropping connection!";
    const SOLVED: &str = "4,902,95000000,-;block drbd0: Split-Brain detected, 0 primaries, automatically solved. Sync from peer node";
    const RESYNC: &str =
        "6,903,95000000,-;block drbd0: Resync done (total 1 sec; paused 0 sec; 1024 K/sec)";

    fn says(records: &[&str]) -> bool {
        told(records.iter().copied(), "r0", &["0"])
    }

    #[test]
    fn the_last_word_about_a_resource_counts() {
        assert!(says(&[EIGHT]) && says(&[NINE]) && says(&[RESYNC, EIGHT]));
        assert!(!says(&[]) && !says(&[SOLVED]) && !says(&[EIGHT, RESYNC]));
        let others = [
            EIGHT.replace("drbd0", "drbd10"),
            NINE.replace("r0/0 drbd0", "r01/0 drbd1"),
        ];
        assert!(!says(&[&others[0], &others[1]]));
    }
}
