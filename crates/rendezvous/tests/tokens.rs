//! What a token grants is held to.

// A test may panic.
#![allow(clippy::unwrap_used)]

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
