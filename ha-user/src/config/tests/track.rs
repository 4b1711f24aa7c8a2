//! `track`, `[[interface]]`, and what all checks have.

use ha_common::Nanos;
use ha_core::{
    LinkDelays,
    check::CheckConfig,
    tracking::{Effect, Source, Track},
};

use super::{GOOD, errors, parse};

const CHECK: &str = "[[check]]\nname = \"api\"\nkind = \"tcp\"\naddress = \"127.0.0.1:80\"\n";
const COUNTING: &str =
    "[[check]]\nname = \"load\"\nkind = \"file\"\npath = \"/run/load\"\nexpect = \"number\"\n";

#[test]
fn checks_and_interfaces_have_defaults() {
    let config = parse(&format!("{GOOD}{CHECK}[[interface]]\nname = \"eth1\"\n"));
    let check = &config.checks[0];
    assert_eq!(
        check.times,
        CheckConfig {
            interval: Nanos::from_secs(1),
            timeout: Nanos::from_secs(1),
            rise: 2,
            fall: 2,
            start_delay: Nanos::ZERO,
        }
    );
    assert_eq!(
        (check.kind.name(), check.damping),
        ("tcp", Nanos::from_secs(60))
    );
    let interface = &config.interfaces[0];
    assert_eq!(interface.delays, LinkDelays::default());
    assert_eq!(
        (interface.min_up_slaves, interface.damping),
        (1, Nanos::from_secs(60))
    );
    assert!(config.instances[0].track.is_empty());
}

#[test]
fn an_item_says_what_is_tracked_and_what_it_does() {
    let config = parse(&format!(
        "{GOOD}track = [{{ check = \"api\" }}, {{ interface = \"eth1\", weight = -20 }}, {{ interface = \"bond0\", weight_per_slave = 5 }}, {{ check = \"gateway\", when = \"isolated\" }}, {{ check = \"load\", weight_per_unit = -2 }}]\ngroup = \"db\"\n[[group]]\nname = \"db\"\ntrack = [{{ check = \"other\", weight = 3 }}]\n{CHECK}{}{}{COUNTING}",
        CHECK.replace("api", "gateway"),
        CHECK.replace("api", "other")
    ));
    let track = |source, effect| Track { source, effect };
    let interface = |name: &str| Source::Interface(name.to_owned());
    let api = Source::Check("api".to_owned());
    assert_eq!(
        config.instances[0].track,
        [
            track(api, Effect::Veto),
            track(interface("eth1"), Effect::Weight(-20)),
            track(interface("bond0"), Effect::WeightPerUnit(5)),
            track(Source::Check("gateway".to_owned()), Effect::Arbitrate),
            track(Source::Check("load".to_owned()), Effect::WeightPerUnit(-2)),
        ]
    );
    let other = Source::Check("other".to_owned());
    assert_eq!(config.groups[0].track, [track(other, Effect::Weight(3))]);
}

#[test]
fn what_cannot_be_tracked() {
    let items = [
        "{ check = \"nothing\" }",
        "{ interface = \"eth0\" }",
        "{ interface = \"eth1\", weight = 0 }",
        "{ interface = \"eth2\", weight = 300 }",
        "{ check = \"api\", weight_per_slave = 5 }",
        "{ check = \"api\", weight_per_unit = 5 }",
        "{ check = \"load\", weight_per_unit = 5, weight = 1 }",
        "{ interface = \"eth5\", weight_per_unit = 5 }",
        "{ check = \"api\", interface = \"eth3\" }",
        "{ weight = 5 }",
        "{ check = \"api\", when = \"always\" }",
        "{ interface = \"eth4\", when = \"isolated\" }",
        "{ check = \"api\", weight = 5, when = \"isolated\" }",
        "{ chek = \"api\" }",
        "{ check = \"api\" }",
        "{ check = \"api\", weight = 5 }",
        "5",
    ];
    let text = format!("{GOOD}track = [\n{}\n]\n{CHECK}", items.join(",\n")) + COUNTING;
    insta::assert_snapshot!(errors(&text));
}

/// What is wrong with a check is said of the check alone.
#[test]
fn a_check_that_is_wrong_is_there_all_the_same() {
    let names = ["kind", "address", "number", "two words"];
    let items = names.map(|name| format!("{{ check = \"{name}\", weight_per_unit = 5 }}"));
    let checks = [
        CHECK.replace("api", "kind").replace("tcp", "tpc"),
        CHECK
            .replace("api", "address")
            .replace("127.0.0.1:80", "localhost"),
        COUNTING
            .replace("load\"\nk", "number\"\nk")
            .replace("\"/run/load\"", "5"),
        COUNTING.replace("load\"\nk", "two words\"\nk"),
    ];
    let text = format!(
        "{GOOD}track = [\n{}\n]\n{}",
        items.join(",\n"),
        checks.concat()
    );
    insta::assert_snapshot!(errors(&text));
}

#[test]
fn a_check_of_a_similar_name_is_suggested() {
    let text = format!("{GOOD}track = [{{ check = \"laod\" }}]\n{CHECK}{COUNTING}");
    insta::assert_snapshot!(errors(&text));
}

#[test]
fn a_thing_has_one_effect_on_a_group() {
    let second = GOOD
        .replace("\"web\"", "\"db\"")
        .replace("51", "52")
        .replace("33.100", "33.99");
    let item = "track = [{ check = \"api\", weight = -20 }]\ngroup = \"g\"\n";
    let good = format!("{GOOD}{item}{second}{item}[[group]]\nname = \"g\"\n{CHECK}");
    assert_eq!(parse(&good).groups.len(), 1);
    insta::assert_snapshot!(errors(&good.replacen("-20", "-10", 1)));
}

#[test]
fn the_owner_has_no_weights() {
    let text =
        format!("{GOOD}priority = 255\ntrack = [{{ check = \"api\", weight = -5 }}]\n{CHECK}");
    insta::assert_snapshot!(errors(&text));
}

#[test]
fn checks_and_interfaces_that_cannot_be() {
    insta::assert_snapshot!(errors(&format!(
        "{GOOD}{CHECK}{CHECK}[[check]]\nname = \"web\"\nkind = \"tpc\"\ninterval = \"1ms\"\nfall = 0\n[[check]]\nkind = \"tcp\"\naddress = \"localhost:80\"\nurl = 5\n[[interface]]\nup_delay = \"2h\"\n[[interface]]\nname = \"eth0\"\nmin_up_slaves = 0\n"
    )));
}
