//! How much stands in a file, in words.

use super::Config;

impl Config {
    /// How many there are of what counts; of checks and channels only where there are any.
    #[must_use]
    pub fn counts(&self) -> String {
        let instances = counted(self.instances.len(), "instance");
        let mut words = format!("{instances} in {}", counted(self.groups.len(), "group"));
        let channels = self.channels.len() + self.lease_channels.len();
        for (count, what) in [(self.checks.len(), "check"), (channels, "channel")] {
            if count > 0 {
                words.push_str(", ");
                words.push_str(&counted(count, what));
            }
        }
        words
    }
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::for_tests;

    #[test]
    fn checks_and_channels_are_counted_where_there_are_any() {
        let instance = "[[instance]]\nname = \"web\"\ninterface = \"eth0\"\nvrid = 51\nvips = [\"192.168.33.100/24\"]\n";
        assert_eq!(for_tests(instance).counts(), "1 instance in 0 groups");
        let check =
            |name: &str| format!("[[check]]\nname = \"{name}\"\nkind = \"file\"\npath = \"/a\"\n");
        let checks = [instance, &check("a"), &check("b")].concat();
        assert_eq!(
            for_tests(&checks).counts(),
            "1 instance in 0 groups, 2 checks"
        );
        let channel = |name: &str, kind: &str, number: u32| {
            format!(
                "[[channel]]\nname = \"{name}\"\nkind = \"{kind}\"\ninterface = \"eth{number}\"\nlocal = \"10.0.{number}.1\"\npeer = \"10.0.{number}.2\"\n"
            )
        };
        let all = [
            instance,
            "group = \"g\"\n[[group]]\nname = \"g\"\n",
            &check("a"),
            &channel("b", "bfd", 1),
            &channel("l", "lease", 2),
        ]
        .concat();
        assert_eq!(
            for_tests(&all).counts(),
            "1 instance in 1 group, 1 check, 2 channels"
        );
    }
}
