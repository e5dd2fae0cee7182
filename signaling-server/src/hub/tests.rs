//! What the hub keeps of connections, and that it keeps nothing of those that are gone.

use super::*;

const ANNOUNCE: &str = r#"{"action":"announce","info_hash":"aaaaaaaaaaaaaaaaaaaa","peer_id":"-WW0102-000000000001"}"#;

fn hub() -> Arc<Hub> {
    Hub::new(Config::new([1; 32]), TrackerConfig::default(), None, None, 1)
}

fn open(hub: &Arc<Hub>, protocol: Protocol, peer: u64) -> Place {
    hub.open(protocol, PeerId(peer), Location::default())
}

#[test]
fn a_held_announce_of_a_connection_that_is_gone_enters_nobody() {
    let hub = hub();
    let place = open(&hub, Protocol::Tracker, 1);
    let held = || Held::Tracker { text: ANNOUNCE.to_owned(), grant: None, offers: 0 };
    hub.handle_held(place.conn, held());
    assert_eq!(hub.counts().tracker.peers, 1);
    let conn = place.conn;
    drop(place);
    hub.handle_held(conn, held());
    assert_eq!(hub.counts().tracker.peers, 0);
}

#[test]
fn connections_are_counted_until_they_end_however_they_do() {
    let hub = hub();
    let places: Vec<Place> = (0..3).map(|peer| open(&hub, Protocol::Native, peer)).collect();
    let deaf = open(&hub, Protocol::Tracker, 9);
    assert_eq!(hub.counts().connections, [3, 1]);
    // The core closes one that says something before it joins.
    places[0].message(ClientMessage::Want { count: 1 }, None);
    assert_eq!(hub.counts().connections, [2, 1]);
    hub.lock().give_up(deaf.conn);
    assert_eq!(hub.counts().connections, [2, 0]);
    drop((places, deaf));
    assert_eq!(hub.counts().connections, [0, 0]);
}
