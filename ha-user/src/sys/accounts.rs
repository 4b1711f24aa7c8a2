//! The users of this host, by /etc/passwd alone: a name service that waits for a network must not hold a check up.

use std::{fs, io, path::PathBuf};

/// The file.
const PASSWD: &str = "/etc/passwd";

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Number.
    pub uid: u32,
    /// Number of the primary group.
    pub gid: u32,
    /// Home directory.
    pub home: PathBuf,
}

/// The user of a name, or of a number; `None` where there is no such one.
///
/// # Errors
/// As for the reading of /etc/passwd.
pub fn user(name: &str) -> io::Result<Option<User>> {
    Ok(find(&fs::read_to_string(PASSWD)?, name))
}

/// In the text of passwd(5): by the whole name, else by the number.
fn find(passwd: &str, name: &str) -> Option<User> {
    let uid = name.parse().ok();
    let named = passwd.lines().filter_map(parse);
    let numbered = passwd.lines().filter_map(parse);
    named
        .into_iter()
        .find(|user| user.name == name)
        .or_else(|| numbered.into_iter().find(|user| Some(user.uid) == uid))
}

fn parse(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    let (name, _password) = (fields.next()?, fields.next()?);
    let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let (_comment, home) = (fields.next()?, fields.next()?);
    Some(User {
        name: name.to_owned(),
        uid,
        gid,
        home: PathBuf::from(home),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_whole_name_or_number() {
        let text = "root:x:0:0:root:/root:/bin/bash\nmysqlx:x:7:7::/:/bin/sh\nmysql:x:106:113:MySQL Server,,,:/nonexistent:/bin/false\n\n+nis\n";
        let mysql = find(text, "mysql").unwrap();
        assert_eq!((mysql.uid, mysql.gid), (106, 113));
        assert_eq!(mysql.home, PathBuf::from("/nonexistent"));
        assert_eq!(find(text, "7").unwrap().name, "mysqlx");
        assert_eq!(find(text, "mysq"), None);
        assert_eq!(find(text, ""), None);
        assert_eq!(user("root").unwrap().unwrap().uid, 0);
    }
}
