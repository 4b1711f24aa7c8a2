//! BFD channels: when they prove that the Active router is dead, and when they do not.

use crate::driver::*;
use ha_common::{MonoNs, Nanos};
use ha_core::{Cause, ChannelConfig, ChannelState, Input, InstanceConfig, State};

/// A gate of 30 ms, and 1/256 of it.
const OUTLIVED: Nanos = Nanos(30_117_187);
/// An advert is overdue.
const OVERDUE: Nanos = Nanos(12_500_000);

/// With a channel over the LAN to the router 102, and one over another link.
fn two_channels() -> InstanceConfig {
    InstanceConfig {
        sole_peer: true,
        channels: vec![
            ChannelConfig {
                name: "lan".to_owned(),
                lan_peer: Some(address(102)),
            },
            ChannelConfig {
                name: "direct".to_owned(),
                lan_peer: None,
            },
        ],
        ..instance(0)
    }
}

fn tell(driver: &mut Driver, channel: &str, state: ChannelState) {
    driver.input(Input::Channel {
        instance: ID,
        channel: channel.to_owned(),
        state,
    });
}

/// A Backup of `advert`'s sender, with both channels up.
fn backup(config: InstanceConfig, advert: ha_core::Advert) -> Driver {
    let mut driver = Driver::backup(config);
    driver.hear_advert(ID, advert);
    for channel in ["lan", "direct"] {
        tell(&mut driver, channel, ChannelState::Up);
    }
    driver.take();
    driver
}

/// When it takes over, and why.
fn take_over(driver: &mut Driver) -> (MonoNs, Cause) {
    for _ in 0..4 {
        let actions = driver.tick();
        if let Some((_, State::Promoting, cause)) = transitions(&actions).into_iter().next() {
            return (driver.now, cause);
        }
    }
    panic!("it does not take over");
}

#[test]
fn all_dead_a_had_is_waited_for_until_its_gate_is_closed() {
    let mut driver = backup(two_channels(), advert(102, 200));
    let heard = driver.now;
    driver.after(Nanos::from_millis(9));
    tell(&mut driver, "lan", ChannelState::Dead);
    tell(&mut driver, "direct", ChannelState::Dead);
    assert_eq!(driver.state(), State::Backup);
    let (at, cause) = take_over(&mut driver);
    assert_eq!(at, heard.after(OUTLIVED));
    let lasted = at.since(heard);
    assert_eq!(
        cause,
        Cause::Dead {
            active: address(102),
            lasted
        }
    );
}

#[test]
fn all_dead_a_foreign_router_s_next_advert_is_waited_for() {
    let mut driver = backup(two_channels(), foreign(102, 200));
    let heard = driver.now;
    driver.after(Nanos::from_millis(9));
    tell(&mut driver, "direct", ChannelState::Dead);
    tell(&mut driver, "lan", ChannelState::Dead);
    assert_eq!(driver.state(), State::Backup);
    assert_eq!(take_over(&mut driver).0, heard.after(OVERDUE));

    // Where that is over already, at once.
    let mut driver = backup(two_channels(), foreign(102, 200));
    driver.after(Nanos::from_millis(15));
    tell(&mut driver, "direct", ChannelState::Dead);
    tell(&mut driver, "lan", ChannelState::Dead);
    assert_eq!(driver.state(), State::Promoting);
}

#[test]
fn an_advert_disproves_it() {
    let mut driver = backup(two_channels(), foreign(102, 200));
    tell(&mut driver, "lan", ChannelState::Dead);
    tell(&mut driver, "direct", ChannelState::Dead);
    for _ in 0..5 {
        driver.after(INTERVAL);
        driver.hear_advert(ID, foreign(102, 200));
        assert_eq!(driver.state(), State::Backup);
    }
    let heard = driver.now;
    assert_eq!(take_over(&mut driver).0, heard.after(OVERDUE));
}

#[test]
fn anything_less_waits_for_the_active_down_interval() {
    use ChannelState::{Dead, Unknown, Up};
    let rows = [
        ("one still works", Dead, Up),
        ("the LAN still works", Up, Dead),
        ("one was taken down on purpose", Dead, Unknown),
        ("the LAN's was taken down on purpose", Unknown, Dead),
    ];
    for (name, lan, direct) in rows {
        let mut driver = backup(two_channels(), foreign(102, 200));
        let heard = driver.now;
        tell(&mut driver, "lan", lan);
        tell(&mut driver, "direct", direct);
        let (at, cause) = take_over(&mut driver);
        assert_eq!(at, heard.after(DOWN), "{name}");
        assert!(matches!(cause, Cause::Silence { .. }), "{name}: {cause:?}");
    }
}

#[test]
fn a_dead_dedicated_link_alone_is_no_proof() {
    let mut only_direct = two_channels();
    only_direct.channels.remove(0);
    let mut driver = backup(only_direct, foreign(102, 200));
    let heard = driver.now;
    tell(&mut driver, "direct", ChannelState::Dead);
    assert_eq!(take_over(&mut driver).0, heard.after(DOWN));
    // While adverts come, it changes nothing at all.
    let mut driver = backup(two_channels(), foreign(102, 200));
    tell(&mut driver, "direct", ChannelState::Dead);
    assert!(driver.take().is_empty());
}

#[test]
fn a_channel_to_another_router_proves_nothing_of_this_one() {
    let mut driver = backup(two_channels(), foreign(103, 200));
    let heard = driver.now;
    tell(&mut driver, "lan", ChannelState::Dead);
    tell(&mut driver, "direct", ChannelState::Dead);
    assert_eq!(take_over(&mut driver).0, heard.after(DOWN));

    // And is not needed to be dead, where this one's are.
    let mut config = two_channels();
    config.sole_peer = false;
    config.channels.push(ChannelConfig {
        name: "other".to_owned(),
        lan_peer: Some(address(103)),
    });
    let mut driver = backup(config, foreign(102, 200));
    let heard = driver.now;
    tell(&mut driver, "other", ChannelState::Up);
    tell(&mut driver, "lan", ChannelState::Dead);
    tell(&mut driver, "direct", ChannelState::Dead);
    // Others may want it, too: the lower priority waits longer.
    let skew = Nanos(6_093_750);
    assert_eq!(take_over(&mut driver).0, heard.after(OVERDUE).after(skew));
}

#[test]
fn a_channel_that_comes_back_takes_the_proof_back() {
    let mut driver = backup(two_channels(), advert(102, 200));
    let heard = driver.now;
    tell(&mut driver, "lan", ChannelState::Dead);
    tell(&mut driver, "direct", ChannelState::Dead);
    driver.after(Nanos::from_millis(20));
    tell(&mut driver, "direct", ChannelState::Up);
    assert_eq!(take_over(&mut driver).0, heard.after(DOWN));
}

#[test]
fn where_the_kernel_watches_the_engine_wakes_for_the_proof() {
    let mut kernel = config(vec![two_channels()]);
    kernel.kernel_watch = true;
    let mut driver = Driver::backup_of(kernel);
    driver.after(INTERVAL);
    driver.hear_advert(ID, advert(102, 200));
    let heard = driver.now;
    driver.take();
    tell(&mut driver, "lan", ChannelState::Dead);
    tell(&mut driver, "direct", ChannelState::Dead);
    assert_eq!(take_over(&mut driver).0, heard.after(OUTLIVED));
}

#[test]
fn an_active_instance_is_not_concerned() {
    let mut driver = Driver::active(two_channels());
    driver.take();
    for state in [ChannelState::Up, ChannelState::Dead] {
        tell(&mut driver, "lan", state);
        tell(&mut driver, "direct", state);
    }
    assert!(driver.take().is_empty());
    assert_eq!(driver.state(), State::Active);
}

#[test]
fn a_reload_keeps_what_is_known_of_a_channel() {
    let mut driver = backup(two_channels(), foreign(102, 200));
    driver.after(Nanos::from_millis(15));
    tell(&mut driver, "lan", ChannelState::Dead);
    let mut one = two_channels();
    one.channels.pop();
    driver.input(Input::Reconfigure(config(vec![one])));
    driver.ready(ID);
    let (_, cause) = take_over(&mut driver);
    assert!(matches!(cause, Cause::Dead { .. }), "{cause:?}");
}
