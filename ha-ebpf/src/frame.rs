//! A frame as the handlers see it: the packet behind its Ethernet header and tags, and the interface
//! that it belongs to.

use core::cell::Cell;

use ha_common::{
    abi::{Reason, VlanKey},
    wire::ethernet,
};

use crate::{echo::Echo, maps, packet::Span};

/// Tags that are followed: an IEEE 802.1ad service tag and the customer's (QinQ).
pub(crate) const MAX_TAGS: usize = 2;

/// A frame on its way in.
pub(crate) struct Frame {
    /// From the Ethernet header on.
    link: Span,
    /// From the network header on.
    packet: Span,
    /// What the packet is.
    pub(crate) ether_type: u16,
    /// The interface that gets it: a VLAN's, if it has a tag.
    pub(crate) ifindex: u32,
    /// Bytes before the network header.
    pub(crate) header_len: usize,
    /// What is left to be done about an echo.
    pub(crate) echo: Cell<Echo>,
}

impl Frame {
    /// Reads the Ethernet header and the tags of what came in by `ifindex`.
    ///
    /// As the kernel does: a tag with VID 0 says only a priority, any other leads to the VLAN's
    /// interface on this one. `Err`: the frame is none of ours, for that reason.
    #[inline(always)]
    pub(crate) fn parse(link: Span, ifindex: u32) -> Result<Self, Reason> {
        let Some(header) = link.bytes::<{ ethernet::HEADER_LEN }>(0) else {
            return Err(Reason::PassOther);
        };
        let mut ether_type = ethernet::ether_type(header);
        let mut header_len = ethernet::HEADER_LEN;
        let mut ifindex = ifindex;
        for _ in 0..MAX_TAGS {
            if !ethernet::is_tag(ether_type) {
                break;
            }
            let Some(tag) = link.bytes::<{ ethernet::TAG_LEN }>(header_len) else {
                return Err(Reason::PassOther);
            };
            let vid = ethernet::vid(tag);
            if vid != 0 {
                let key = VlanKey {
                    ifindex,
                    protocol: ether_type,
                    vid,
                };
                ifindex = maps::vlan_interface(&key).ok_or(Reason::PassVlan)?;
            }
            ether_type = ethernet::tagged_type(tag);
            header_len += ethernet::TAG_LEN;
        }
        if ethernet::is_tag(ether_type) {
            return Err(Reason::PassVlan);
        }
        Ok(Self {
            link,
            packet: link.after(header_len, ifindex),
            ether_type,
            ifindex,
            header_len,
            echo: Cell::new(Echo::NONE),
        })
    }

    /// The station that it is for.
    #[inline(always)]
    pub(crate) fn station(&self) -> [u8; 6] {
        self.link.bytes(0).copied().unwrap_or_default()
    }

    /// The `N` bytes at `offset` of the packet, unless the frame ends before.
    #[inline(always)]
    pub(crate) fn bytes<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        self.packet.bytes(offset)
    }

    /// The `N` words at `offset` of the packet, as they lie in memory, unless the frame ends before.
    #[inline(always)]
    pub(crate) fn words<const N: usize>(&self, offset: usize) -> Option<[u64; N]> {
        self.packet.words(offset)
    }

    /// [`Self::words`] of 32 bits.
    #[inline(always)]
    pub(crate) fn half_words<const N: usize>(&self, offset: usize) -> Option<[u32; N]> {
        self.packet.half_words(offset)
    }

    /// The packet from its network header on.
    #[inline(always)]
    pub(crate) const fn packet(&self) -> Span {
        self.packet
    }

    /// What the packet holds after `offset` bytes, less than 2,048, of which the verifier forgets how many they are.
    #[inline(always)]
    pub(crate) fn after(&self, offset: usize) -> Span {
        self.packet.after_unknown(offset, self.ifindex)
    }

    /// As [`Self::answer`], with the packet in words.
    #[inline(always)]
    pub(crate) fn answer_words<const N: usize>(
        &self,
        destination: [u8; 6],
        source: [u8; 6],
        packet: [u64; N],
    ) -> bool {
        self.packet.overwrite_words(packet)
            && self
                .link
                .overwrite(&ethernet::stations(destination, source))
    }

    /// Turns the frame into its answer: the stations and the first `N` bytes of the packet. Tags and
    /// EtherType, and what pads the frame, stay as they came. False if the frame is shorter.
    #[inline(always)]
    pub(crate) fn answer<const N: usize>(
        &self,
        destination: [u8; 6],
        source: [u8; 6],
        packet: &[u8; N],
    ) -> bool {
        self.packet.overwrite(packet)
            && self
                .link
                .overwrite(&ethernet::stations(destination, source))
    }
}
