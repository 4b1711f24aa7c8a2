//! What the programs cost the verifier.

use ha_user::dataplane::Dataplane;

use crate::fixture::unpinned;

/// The kernel's limit is a million; other versions follow more than this one.
const LIMIT: u32 = 400_000;

#[test]
fn the_programs_are_far_from_the_verifiers_limit() {
    let verified = Dataplane::open(&unpinned()).unwrap().verified().unwrap();
    println!("{verified:?}");
    for (name, instructions) in verified {
        assert!(
            (1..LIMIT).contains(&instructions),
            "{name}: {instructions} instructions"
        );
    }
}
