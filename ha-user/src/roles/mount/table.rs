//! What is mounted (/proc/PID/mountinfo).

use std::{
    fs,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

use crate::checks::words;

/// Major and minor number of a device.
pub(super) type Number = (u32, u32);

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// No two have the same, in all mount namespaces.
    pub(super) id: u64,
    /// Of the file system.
    pub(super) device: Number,
    pub(super) place: PathBuf,
    /// What was mounted, as it was named.
    pub(super) source: String,
    /// Whether the file system itself takes no writes, as after an error.
    pub(super) read_only: bool,
    /// Those with the same number share: what is unmounted below one of them is so below all.
    pub(super) peers: Option<u64>,
    /// Whether other mount namespaces have what is mounted below it, and it does not only have what they have.
    pub(super) is_shared: bool,
}

/// All mounts that this process sees, in the order in which they lie upon one another.
pub(super) fn read() -> Result<Vec<Mount>, String> {
    let text = fs::read_to_string("/proc/self/mountinfo")
        .map_err(|error| format!("/proc/self/mountinfo: {}", words::of_io(&error)))?;
    Ok(of(&text))
}

/// Those of a file of this kind.
pub(super) fn of(text: &str) -> Vec<Mount> {
    text.lines().filter_map(mount).collect()
}

/// What is uppermost at a place.
pub(super) fn at<'m>(mounts: &'m [Mount], place: &Path) -> Option<&'m Mount> {
    mounts.iter().rev().find(|mount| mount.place == place)
}

/// What a path lies on.
pub(super) fn below<'m>(mounts: &'m [Mount], path: &Path) -> Option<&'m Mount> {
    let below = mounts.iter().filter(|mount| path.starts_with(&mount.place));
    // The uppermost of several at the same place.
    below.max_by_key(|mount| mount.place.components().count())
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn mount(line: &str) -> Option<Mount> {
    let (own, system) = line.split_once(" - ")?;
    let mut own = own.split(' ');
    let id = own.next()?;
    let (major, minor) = own.nth(1)?.split_once(':')?;
    let place = own.nth(1)?;
    // Behind the options.
    let tags: Vec<&str> = own.skip(1).collect();
    let value = |name: &str| tags.iter().find_map(|tag| tag.strip_prefix(name));
    let is_shared = value("shared:").is_some() && value("master:").is_none();
    let mut system = system.split(' ');
    let source = system.nth(1)?;
    let options = system.next()?;
    Some(Mount {
        id: id.parse().ok()?,
        device: (major.parse().ok()?, minor.parse().ok()?),
        place: PathBuf::from(std::ffi::OsString::from_vec(unescaped(place))),
        source: String::from_utf8_lossy(&unescaped(source)).into_owned(),
        read_only: options.split(',').any(|option| option == "ro"),
        peers: value("shared:").and_then(|number| number.parse().ok()),
        is_shared,
    })
}

/// Spaces, tabs, line ends and backslashes stand there as `\040` and the like.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let octal = (*first == b'\\')
            .then(|| after.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_the_kernel_writes_them() {
        let lines = [
            "36 35 147:0 / /srv/my\\040data rw,noatime master:1 - ext4 /dev/drbd0 rw,errors=remount-ro",
            "37 36 0:41 / /srv/my\\040data/x rw - tmpfs none ro,size=4k",
            "38 36 147:1 /sub /srv/\\134040 rw shared:2 - xfs /dev/drbd1 rw",
            "39 36 147:1 /sub /mnt rw shared:3 master:2 - xfs /dev/drbd1 rw",
        ];
        let mounts: Vec<Mount> = lines.iter().filter_map(|line| mount(line)).collect();
        assert_eq!(
            mounts[0],
            Mount {
                id: 36,
                device: (147, 0),
                place: PathBuf::from("/srv/my data"),
                source: "/dev/drbd0".to_owned(),
                read_only: false,
                peers: None,
                is_shared: false,
            }
        );
        assert!(mounts[2].is_shared && !mounts[1].is_shared && !mounts[3].is_shared);
        assert_eq!((mounts[2].peers, mounts[3].peers), (Some(2), Some(3)));
        assert!(mounts[1].read_only);
        assert_eq!(mounts[2].place, Path::new("/srv/\\040"));
        assert_eq!(at(&mounts, Path::new("/srv/my data/x")), Some(&mounts[1]));
        assert_eq!(at(&mounts, Path::new("/srv")), None);
        let below = |path| below(&mounts, Path::new(path));
        assert_eq!(below("/srv/my data/x/y"), Some(&mounts[1]));
        assert_eq!(below("/srv/my data/z"), Some(&mounts[0]));
        assert_eq!(below("/elsewhere"), None);
    }

    #[test]
    fn this_system_has_a_root() {
        let mounts = read().unwrap();
        assert!(at(&mounts, Path::new("/")).is_some());
    }
}
