//! Addresses that should be gone from an interface, and could not be taken off it so far.

use std::collections::BTreeSet;

use ipnet::IpNet;

/// One address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Debt {
    /// The interface, whatever it is called by now.
    pub(super) ifindex: u32,
    /// What it was called.
    pub(super) interface: String,
    pub(super) vip: IpNet,
}

/// What this node owes.
#[derive(Debug, Default)]
pub(super) struct Debts {
    owed: BTreeSet<Debt>,
}

impl Debts {
    pub(super) fn add(&mut self, ifindex: u32, interface: &str, vips: &[IpNet]) {
        self.owed.extend(vips.iter().map(|vip| Debt {
            ifindex,
            interface: interface.to_owned(),
            vip: *vip,
        }));
    }

    /// Somebody has put these on again, and answers for them.
    pub(super) fn forgive(&mut self, ifindex: u32, vips: &[IpNet]) {
        self.owed
            .retain(|debt| debt.ifindex != ifindex || !vips.contains(&debt.vip));
    }

    /// Tries to take each off; returns those that are gone.
    pub(super) fn pay(&mut self, remove: impl FnMut(&Debt) -> bool) -> BTreeSet<Debt> {
        let (paid, left) = std::mem::take(&mut self.owed).into_iter().partition(remove);
        self.owed = left;
        paid
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Debt> {
        self.owed.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.owed.is_empty()
    }

    /// Whether anything is owed on an interface.
    pub(super) fn concern(&self, ifindex: u32) -> bool {
        self.owed.iter().any(|debt| debt.ifindex == ifindex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn what_is_owed_stays_until_it_is_paid_or_forgiven() {
        let mut debts = Debts::default();
        debts.add(2, "eth0", &nets(&["10.0.0.1/24", "10.0.0.2/24"]));
        debts.add(2, "eth0", &nets(&["10.0.0.1/24"]));
        debts.add(3, "eth1", &nets(&["10.0.0.1/24"]));
        assert_eq!(debts.iter().count(), 3, "each once");
        assert!(debts.pay(|_| false).is_empty());
        debts.forgive(2, &nets(&["10.0.0.1/24", "10.0.0.9/24"]));
        assert!(debts.concern(2) && debts.concern(3));
        let paid = debts.pay(|debt| debt.ifindex == 3);
        let of: Vec<&str> = paid.iter().map(|debt| debt.interface.as_str()).collect();
        assert_eq!(of, ["eth1"]);
        assert!(debts.concern(2) && !debts.concern(3));
        assert_eq!(debts.pay(|_| true).len(), 1);
        assert!(debts.is_empty());
    }
}
