//! Keyed SHA1 and Meticulous Keyed SHA1 (RFC 5880 section 6.7.4).

use ha_common::{
    MonoNs,
    wire::bfd::{Control, DIGEST_LEN, Payload, Sha1 as Kind, Sha1Section},
};
use sha1::{Digest as _, Sha1};
use subtle::ConstantTimeEq as _;

use super::config::Auth;

/// Signs what is sent and checks what is received.
#[derive(Clone, Debug)]
pub struct Authenticator {
    auth: Auth,
    /// bfd.XmitAuthSeq.
    sequence: u32,
    /// bfd.RcvAuthSeq; `None`: bfd.AuthSeqKnown is 0.
    received: Option<u32>,
    /// When [`Self::received`] is forgotten.
    known_until: MonoNs,
    /// What was signed last, but for the sequence number.
    signed: Option<Control>,
}

impl Authenticator {
    /// Begins at a random sequence number.
    #[must_use]
    pub fn new(auth: Auth, sequence: u32) -> Self {
        Self {
            auth,
            sequence,
            received: None,
            known_until: MonoNs::ZERO,
            signed: None,
        }
    }

    /// Signs a packet. The sequence number grows with each packet, or (keyed) with each that says
    /// something else than the one before.
    pub fn sign(&mut self, control: &Control) -> Payload {
        if self.auth.kind == Kind::Meticulous || self.signed.as_ref() != Some(control) {
            self.sequence = self.sequence.wrapping_add(1);
            self.signed = Some(*control);
        }
        let payload = Payload::with_section(
            control,
            &Sha1Section {
                kind: self.auth.kind,
                key_id: self.auth.key_id,
                sequence: self.sequence,
                digest: *self.auth.key.bytes(),
            },
        );
        payload.with_digest(&digest(&payload))
    }

    /// Whether a received packet is the peer's, and no old one: its sequence number is less than three
    /// Detect Mults ahead of the last one's. Nothing is learnt from one that is refused.
    pub fn verify(
        &mut self,
        payload: &Payload,
        section: &Sha1Section,
        control: &Control,
        now: MonoNs,
    ) -> bool {
        if section.kind != self.auth.kind || section.key_id != self.auth.key_id {
            return false;
        }
        if self.known_until <= now {
            self.received = None;
        }
        if let Some(last) = self.received {
            let ahead = section.sequence.wrapping_sub(last);
            let least = u32::from(self.auth.kind == Kind::Meticulous);
            if !(least..=3 * u32::from(control.multiplier)).contains(&ahead) {
                return false;
            }
        }
        let keyed = payload.with_digest(self.auth.key.bytes());
        if !bool::from(digest(&keyed).ct_eq(&section.digest)) {
            return false;
        }
        self.received = Some(section.sequence);
        true
    }

    /// The sequence number is forgotten at `due`: two Detection Times after the last packet (RFC 5880
    /// section 6.8.1, bfd.AuthSeqKnown).
    pub fn remember_until(&mut self, due: MonoNs) {
        self.known_until = due;
    }
}

/// Over the whole packet, with the key in the digest's place.
fn digest(payload: &Payload) -> [u8; DIGEST_LEN] {
    Sha1::digest(payload.as_slice()).into()
}
