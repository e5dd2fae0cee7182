//! Two native peers over real data channels on this machine, with signalling passed by hand.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use headwater_seed::transport::{
    DataChannels, Link, LinkEvent, LinkId, LinkReport, LinkRequest, MuxOptions, OutgoingChunk, REPORT_QUEUE, Stack,
    Transport,
};
use headwater_wire::limits::CHUNK_LEN;
use headwater_wire::{ChunkId, ChunkIndex, Frame, PeerId, SegmentId, SeqNo, TrackId};
use tokio::sync::mpsc;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

/// The stack to try: `cargo xtask test --only stack` names another than the usual one.
fn stack() -> Stack {
    std::env::var("HEADWATER_STACK")
        .map_or_else(|_| Stack::default(), |name| name.parse().expect("a stack of this build"))
}

/// Both ends of one connection, and one queue for the reports of both.
struct Pair {
    links: [Option<Link>; 2],
    reports: mpsc::Receiver<LinkReport>,
}

impl Pair {
    fn start() -> Self {
        Self::of([stack(); 2])
    }

    fn of(stacks: [Stack; 2]) -> Self {
        let (reports_tx, reports) = mpsc::channel(REPORT_QUEUE);
        let links = [0, 1].map(|side: u64| {
            let request =
                LinkRequest { link: LinkId(side), peer: PeerId(1 - side), offer: side == 0, ice_servers: Vec::new() };
            let transport = DataChannels::new(MuxOptions::default(), stacks[side as usize]);
            Some(transport.connect(request, reports_tx.clone()))
        });
        Self { links, reports }
    }

    /// The next event that is not signalling, which is passed on.
    async fn next(&mut self) -> (usize, LinkEvent) {
        loop {
            let report = timeout(PATIENCE, self.reports.recv()).await.expect("nothing happens").unwrap();
            let side = report.link.0 as usize;
            match report.event {
                LinkEvent::Signal(data) => {
                    if let Some(other) = &self.links[1 - side] {
                        other.signals.send(data).await.unwrap();
                    }
                }
                event => return (side, event),
            }
        }
    }

    async fn open(&mut self) {
        let mut open = [false; 2];
        while open != [true; 2] {
            match self.next().await {
                (side, LinkEvent::Open) => open[side] = true,
                other => panic!("{other:?} before both are open"),
            }
        }
    }

    fn link(&self, side: usize) -> &Link {
        self.links[side].as_ref().unwrap()
    }
}

fn chunk(index: u32, bytes: &Bytes) -> OutgoingChunk {
    let segment = SegmentId { track: TrackId(1), seq: SeqNo(1) };
    let chunk = ChunkId { segment, index: ChunkIndex(index) };
    OutgoingChunk { chunk, bytes: bytes.clone(), piece_len: 32_768 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_arrive_whole_and_in_order_and_are_reported_sent() {
    const CHUNKS: u32 = 512;
    let started = Instant::now();
    let mut pair = Pair::start();
    pair.open().await;
    println!("open after {:?}", started.elapsed());

    let bytes: Bytes = (0..CHUNK_LEN).map(|i| (i % 251) as u8).collect::<Vec<_>>().into();
    let chunks = pair.link(0).chunks.clone();
    let sender = tokio::spawn({
        let bytes = bytes.clone();
        async move {
            for index in 0..CHUNKS {
                chunks.send(chunk(index, &bytes)).await.unwrap();
            }
        }
    });
    let started = Instant::now();
    let (mut sent, mut received, mut at) = (0, 0, 0);
    while received < CHUNKS || sent < CHUNKS {
        match pair.next().await {
            (0, LinkEvent::ChunkSent(chunk)) => {
                assert_eq!(chunk.index.0, sent);
                sent += 1;
            }
            (1, LinkEvent::Frame(frame)) => {
                let Ok(Frame::Data(header, payload)) = Frame::parse(&frame) else { panic!("no data frame") };
                assert_eq!((header.chunk.index.0, header.offset as usize), (received, at));
                assert_eq!(payload, &bytes[at..at + payload.len()]);
                at += payload.len();
                if at == bytes.len() {
                    (received, at) = (received + 1, 0);
                }
            }
            other => panic!("{other:?}"),
        }
    }
    sender.await.unwrap();
    let megabytes = f64::from(CHUNKS * CHUNK_LEN) / 1e6;
    println!("{:.1} MB/s", megabytes / started.elapsed().as_secs_f64());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_link_sends_its_last_words_and_closes_both_ends() {
    let mut pair = Pair::start();
    pair.open().await;
    pair.link(1).control.send(b"\0last words".to_vec()).await.unwrap();
    pair.links[1] = None;

    let (mut heard, mut closed) = (false, [false; 2]);
    while closed != [true; 2] {
        match pair.next().await {
            (0, LinkEvent::Frame(frame)) => heard = &frame[..] == b"\0last words",
            (side, LinkEvent::Closed) => closed[side] = true,
            other => panic!("{other:?}"),
        }
    }
    assert!(heard);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_frames_overtake_chunks() {
    let mut pair = Pair::start();
    pair.open().await;
    let bytes = Bytes::from(vec![7; CHUNK_LEN as usize]);
    for index in 0..64 {
        pair.link(0).chunks.send(chunk(index, &bytes)).await.unwrap();
    }
    pair.link(0).control.send(b"\0urgent".to_vec()).await.unwrap();
    let mut data_frames = 0;
    loop {
        match pair.next().await {
            (1, LinkEvent::Frame(frame)) if &frame[..] == b"\0urgent" => break,
            (1, LinkEvent::Frame(_)) => data_frames += 1,
            (0, LinkEvent::ChunkSent(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(data_frames < 100, "the control frame waited for {data_frames} of 128 data frames");
}

#[cfg(feature = "str0m")]
#[tokio::test]
async fn the_stacks_understand_each_other() {
    for stacks in [[Stack::Webrtc, Stack::Str0m], [Stack::Str0m, Stack::Webrtc]] {
        let mut pair = Pair::of(stacks);
        pair.open().await;
        for side in 0..2 {
            let frame = format!("from {side}").into_bytes();
            pair.links[side].as_ref().unwrap().control.send(frame.clone()).await.unwrap();
            match pair.next().await {
                (at, LinkEvent::Frame(came)) => assert_eq!((at, &came[..]), (1 - side, &frame[..])),
                other => panic!("{other:?} in place of a frame"),
            }
        }
    }
}
