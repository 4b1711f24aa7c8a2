//! The dataplane in the kernel.
use ha_user::dataplane::{Dataplane, Mode, Options};

#[test]
fn loads() {
    let mut dataplane = Dataplane::open(&Options {
        mode: Mode::Auto,
        pin_dir: None,
    })
    .unwrap();
    assert!(dataplane.has_watch());
    let verdict = dataplane.run_ingress(&[0; 64]).unwrap();
    assert_eq!(verdict.code, 2);
    assert_eq!(verdict.frame, [0; 64]);
    let verdict = dataplane.run_egress(&[0; 64]).unwrap();
    assert_eq!(verdict.code, u32::MAX);
}
