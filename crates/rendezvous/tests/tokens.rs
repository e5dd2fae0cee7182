//! What a token grants is held to.

// A test may panic.
#![allow(clippy::unwrap_used)]

use headwater_rendezvous::tracker::{Message, Tracker, TrackerConfig};
use headwater_rendezvous::{Config, ConnId, Grant, Input, Now, Output, Rendezvous, TokenId};
use headwater_wire::signal::{ClientMessage, ErrorCode, SIGNAL_VERSION, ServerMessage};
use headwater_wire::{PeerId, Role, SwarmName};

const GRANT: Grant = Grant { token: TokenId(5), max_peers: Some(2), uses: Some(3), expires: Now(u64::MAX) };

/// Joins with a token; the `resume` of the welcome.
fn join(core: &mut Rendezvous, conn: u64, resume: Option<String>) -> Result<String, ErrorCode> {
    let conn = ConnId(conn);
    core.handle_input(Now(0), Input::Opened { conn, fresh: PeerId(conn.0) });
    core.handle_input(Now(0), Input::Granted { conn, grant: GRANT });
    let message = ClientMessage::Join {
        version: SIGNAL_VERSION,
        swarm: SwarmName::new("s").unwrap(),
        role: Role::Viewer,
        token: None,
        want: 0,
        resume,
        connected: Vec::new(),
        position_s: None,
    };
    core.handle_input(Now(0), Input::Message { conn, message });
    let mut answer = None;
    loop {
        match core.poll_output() {
            Output::Send { conn: to, message } if to == conn => answer = Some(message),
            Output::Timeout(_) => break,
            _ => {}
        }
    }
    match answer {
        Some(ServerMessage::Welcome { resume, .. }) => Ok(resume),
        Some(ServerMessage::Error { code, .. }) => Err(code),
        other => panic!("{other:?}"),
    }
}

/// A tracker beside a core, and tokens for both.
struct Trackers(Rendezvous, Tracker);

impl Trackers {
    /// Announces a peer; what was wrong.
    fn announce(&mut self, conn: u64, peer: u64, extra: &str, grant: &Grant, now: Now) -> Option<String> {
        let text = format!(
            r#"{{"action":"announce","info_hash":"{}","peer_id":"-WW0102-{peer:012}"{extra}}}"#,
            "a".repeat(20)
        );
        let Self(core, tracker) = self;
        tracker.handle_message_beside(ConnId(conn), Message::read(&text), Some(grant), &mut core.beside(now));
        let reply: serde_json::Value = serde_json::from_str(tracker.poll_output().unwrap().text).unwrap();
        reply["failure reason"].as_str().map(str::to_owned)
    }

    fn close(&mut self, conn: u64) {
        let Self(core, tracker) = self;
        tracker.handle_closed_beside(ConnId(conn), &mut core.beside(Now(0)));
    }
}

#[test]
fn peers_of_a_tracker_are_held_to_their_token_and_counted_with_the_others() {
    let mut both = Trackers(Rendezvous::new(Config::new([1; 32]), 1), Tracker::new(TrackerConfig::default(), 1));
    let grant = Grant { uses: Some(4), expires: Now(100), ..GRANT };
    let peers = Some("as many peers as this token allows are here".to_owned());
    assert!(join(&mut both.0, 1, None).is_ok());
    assert_eq!(both.announce(2, 2, "", &grant, Now(0)), None);
    // Announcing again is no join; a third peer is one too many, of whichever protocol.
    assert_eq!(both.announce(2, 2, "", &grant, Now(0)), None);
    assert_eq!(both.announce(3, 3, "", &grant, Now(0)), peers);
    assert_eq!(join(&mut both.0, 4, None), Err(ErrorCode::Full));
    // A peer that comes by another socket replaces itself.
    assert_eq!(both.announce(5, 2, "", &grant, Now(0)), None);
    both.close(2);
    assert_eq!(both.announce(3, 3, "", &grant, Now(0)), peers);
    assert_eq!(both.announce(5, 2, r#","event":"stopped""#, &grant, Now(0)), None);
    assert_eq!(both.announce(3, 3, "", &grant, Now(0)), None);
    both.close(3);
    let uses = Some("this token was used as often as it allows".to_owned());
    assert_eq!(both.announce(6, 6, "", &grant, Now(0)), uses);
    assert_eq!(both.1.counts().peers, 0);
}

#[test]
fn nobody_takes_the_name_of_a_peer_that_came_with_another_token() {
    let mut both = Trackers(Rendezvous::new(Config::new([1; 32]), 1), Tracker::new(TrackerConfig::default(), 1));
    let victim = Grant { uses: Some(1), expires: Now(100), ..GRANT };
    let thief = Grant { token: TokenId(9), ..victim };
    assert_eq!(both.announce(1, 1, "", &victim, Now(0)), None);
    let refused = Some("this peer_id is another client's: take one of your own".to_owned());
    assert_eq!(both.announce(2, 1, "", &thief, Now(0)), refused);
    // The peer is in, and announces without another use of its token.
    assert_eq!(both.announce(1, 1, "", &victim, Now(0)), None);
    both.close(1);
    assert_eq!(both.announce(2, 1, "", &thief, Now(0)), None);
}

#[test]
fn whoever_is_in_stays_when_the_token_expires_and_enters_nothing_more() {
    let mut both = Trackers(Rendezvous::new(Config::new([1; 32]), 1), Tracker::new(TrackerConfig::default(), 1));
    let grant = Grant { uses: None, expires: Now(100), ..GRANT };
    assert_eq!(both.announce(1, 1, "", &grant, Now(100)), None);
    assert_eq!(both.announce(1, 1, "", &grant, Now(101)), None);
    let expired = Some("the token has expired: get a new one".to_owned());
    assert_eq!(both.announce(2, 2, "", &grant, Now(101)), expired);
}

#[test]
fn as_many_members_and_joins_as_it_says() {
    let mut core = Rendezvous::new(Config::new([1; 32]), 1);
    let first = join(&mut core, 1, None).unwrap();
    assert!(join(&mut core, 2, None).is_ok());
    assert_eq!(join(&mut core, 3, None), Err(ErrorCode::Full));
    assert_eq!(core.counts().members, 2);
    // Coming back replaces the old connection, and uses nothing up.
    for conn in 4..9 {
        assert!(join(&mut core, conn, Some(first.clone())).is_ok());
    }
    core.handle_input(Now(0), Input::Closed { conn: ConnId(2) });
    assert!(join(&mut core, 10, None).is_ok());
    core.handle_input(Now(0), Input::Closed { conn: ConnId(10) });
    assert_eq!(join(&mut core, 11, None), Err(ErrorCode::Unauthorised));
    core.handle_input(Now(0), Input::Closed { conn: ConnId(8) });
    assert_eq!((core.counts().members, core.swarm_count()), (0, 0));
}
