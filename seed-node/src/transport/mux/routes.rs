//! Whose datagram is whose: by the user name of ICE checks, by the transaction of their answers, and by address for the
//! rest.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::branch::Branch;
use super::stun::{self, Stun, TransactionId};

/// Open transactions remembered of one connection: more than checks of all its candidate pairs take.
const MAX_TRANSACTIONS: usize = 64;

/// Addresses remembered of one connection: a peer has a few, and more only while it roams.
const MAX_ADDRESSES: usize = 16;

/// An address stays with its connection as long as checks come from it at least this often. Without this, a peer could
/// take over a stranger's address with checks of its own under a false sender.
const ADDRESS_HELD: Duration = Duration::from_secs(6);

/// One connection of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct BranchId(pub(super) u64);

#[derive(Debug)]
struct Owner {
    branch: BranchId,
    confirmed: Instant,
}

#[derive(Debug)]
struct Entry {
    branch: Arc<Branch>,
    transactions: VecDeque<(TransactionId, IpAddr, Instant)>,
    addresses: VecDeque<SocketAddr>,
}

#[derive(Debug, Default)]
struct Tables {
    branches: HashMap<BranchId, Entry>,
    by_ufrag: HashMap<String, BranchId>,
    by_transaction: HashMap<TransactionId, BranchId>,
    by_address: HashMap<SocketAddr, Owner>,
}

/// The routing tables of all sockets together.
#[derive(Debug, Default)]
pub(super) struct Routes(Mutex<Tables>);

impl Routes {
    fn tables(&self) -> std::sync::MutexGuard<'_, Tables> {
        // Nothing panics while it holds the lock; were it so, the tables would still be maps.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a connection.
    pub(super) fn insert(&self, branch: &Arc<Branch>) {
        let mut tables = self.tables();
        tables.by_ufrag.insert(branch.ufrag().to_owned(), branch.id());
        let entry = Entry { branch: Arc::clone(branch), transactions: VecDeque::new(), addresses: VecDeque::new() };
        tables.branches.insert(branch.id(), entry);
    }

    /// Forgets a connection and all that leads to it.
    pub(super) fn remove(&self, id: BranchId) {
        let mut tables = self.tables();
        let Some(entry) = tables.branches.remove(&id) else { return };
        tables.by_ufrag.remove(entry.branch.ufrag());
        for (transaction, ..) in &entry.transactions {
            tables.by_transaction.remove(transaction);
        }
        for address in &entry.addresses {
            if tables.by_address.get(address).is_some_and(|owner| owner.branch == id) {
                tables.by_address.remove(address);
            }
        }
    }

    /// Notes a request that a connection sends from a local address, so that its answer is found.
    pub(super) fn note_request(&self, id: BranchId, at: IpAddr, transaction: TransactionId) {
        let mut tables = self.tables();
        let Some(entry) = tables.branches.get_mut(&id) else { return };
        entry.transactions.push_back((transaction, at, Instant::now()));
        let forgotten = (entry.transactions.len() > MAX_TRANSACTIONS).then(|| entry.transactions.pop_front()).flatten();
        tables.by_transaction.insert(transaction, id);
        if let Some((transaction, ..)) = forgotten {
            tables.by_transaction.remove(&transaction);
        }
    }

    /// Whose datagram this is.
    pub(super) fn find(&self, from: SocketAddr, datagram: &[u8]) -> Option<Arc<Branch>> {
        let mut tables = self.tables();
        match stun::parse(datagram) {
            Some(Stun::Request { username: Some(username), .. }) => {
                let ufrag = std::str::from_utf8(stun::receiver(username)).ok()?;
                let id = *tables.by_ufrag.get(ufrag)?;
                tables.confirm(id, from);
                tables.branch(id)
            }
            Some(Stun::Response { transaction }) => {
                let id = tables.by_transaction.remove(&transaction)?;
                let entry = tables.branches.get_mut(&id)?;
                let place = entry.transactions.iter().position(|(known, ..)| *known == transaction)?;
                let (_, at, sent) = entry.transactions.remove(place)?;
                entry.branch.note_round_trip(at, from, sent.elapsed());
                tables.confirm(id, from);
                tables.branch(id)
            }
            Some(Stun::Request { username: None, .. } | Stun::Other) | None => {
                let id = tables.by_address.get(&from)?.branch;
                tables.branch(id)
            }
        }
    }

    /// Whom an ICE check names as its receiver.
    pub(super) fn find_named(&self, check: &[u8]) -> Option<Arc<Branch>> {
        let Some(Stun::Request { username: Some(username), .. }) = stun::parse(check) else { return None };
        let ufrag = std::str::from_utf8(stun::receiver(username)).ok()?;
        let tables = self.tables();
        tables.branch(*tables.by_ufrag.get(ufrag)?)
    }

    /// How many entries there are, of all kinds.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let tables = self.tables();
        tables.branches.len() + tables.by_ufrag.len() + tables.by_transaction.len() + tables.by_address.len()
    }
}

impl Tables {
    fn branch(&self, id: BranchId) -> Option<Arc<Branch>> {
        self.branches.get(&id).map(|entry| Arc::clone(&entry.branch))
    }

    /// A connection was heard from this address.
    fn confirm(&mut self, id: BranchId, from: SocketAddr) {
        let now = Instant::now();
        if let Some(owner) = self.by_address.get_mut(&from) {
            if owner.branch == id {
                owner.confirmed = now;
                return;
            }
            if now.saturating_duration_since(owner.confirmed) < ADDRESS_HELD {
                return;
            }
        }
        let Some(entry) = self.branches.get_mut(&id) else { return };
        if !entry.addresses.contains(&from) {
            entry.addresses.push_back(from);
        }
        let forgotten = (entry.addresses.len() > MAX_ADDRESSES).then(|| entry.addresses.pop_front()).flatten();
        self.by_address.insert(from, Owner { branch: id, confirmed: now });
        if let Some(address) = forgotten
            && self.by_address.get(&address).is_some_and(|owner| owner.branch == id)
        {
            self.by_address.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stun::tests::request;
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn two() -> (Routes, Arc<Branch>, Arc<Branch>) {
        let routes = Routes::default();
        let [a, b] = [(1, "aaaa"), (2, "bbbb")].map(|(id, ufrag)| Branch::new(BranchId(id), ufrag.to_owned()));
        routes.insert(&a);
        routes.insert(&b);
        (routes, a, b)
    }

    #[test]
    fn checks_go_by_their_user_name_and_the_rest_by_address() {
        let (routes, a, b) = two();
        assert!(routes.find(address(1), &[22, 254, 253]).is_none(), "nobody was heard from there");
        assert_eq!(routes.find(address(1), &request("aaaa:x")).unwrap().id(), a.id());
        assert_eq!(routes.find(address(2), &request("bbbb:x")).unwrap().id(), b.id());
        assert!(routes.find(address(3), &request("cccc:x")).is_none());
        assert_eq!(routes.find(address(1), &[22, 254, 253]).unwrap().id(), a.id());
        assert_eq!(routes.find(address(2), &[22, 254, 253]).unwrap().id(), b.id());
    }

    #[test]
    fn a_peer_cannot_take_the_address_of_another() {
        let (routes, a, b) = two();
        routes.find(address(1), &request("aaaa:x"));
        assert_eq!(routes.find(address(1), &request("bbbb:x")).unwrap().id(), b.id(), "the check itself is its own");
        assert_eq!(routes.find(address(1), &[22]).unwrap().id(), a.id());
    }

    #[test]
    fn nothing_is_left_of_connections_and_little_is_kept_of_each() {
        let (routes, a, b) = two();
        for port in 0..200 {
            routes.find(address(port), &request("aaaa:x"));
            routes.note_request(a.id(), [127, 0, 0, 1].into(), [port as u8; 12]);
        }
        assert!(routes.len() <= 4 + MAX_ADDRESSES + MAX_TRANSACTIONS);
        routes.remove(a.id());
        routes.remove(b.id());
        assert_eq!(routes.len(), 0);
    }
}
