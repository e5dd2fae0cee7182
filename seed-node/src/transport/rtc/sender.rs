//! The writing half of a connection: control frames first, chunks as fast as the path takes them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use headwater_wire::frame::DATA_HEADER_LEN;
use headwater_wire::{ChunkId, DataHeader};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until, timeout};
use webrtc::data_channel::DataChannel;
use webrtc::error::Error;

use super::super::mux::Branch;
use super::super::pilot::{Permit, Pilot};
use super::super::{LinkEvent, OutgoingChunk};
use super::Reporter;

/// How long the last frames may take to arrive before a connection is closed under them.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// How often to look for acknowledgements of which nothing was heard, so that a stall is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The writing half, from when the channel is open.
pub(super) struct Writer {
    queues: Option<(mpsc::Receiver<Vec<u8>>, mpsc::Receiver<OutgoingChunk>)>,
    task: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn new(control: mpsc::Receiver<Vec<u8>>, chunks: mpsc::Receiver<OutgoingChunk>) -> Self {
        Self { queues: Some((control, chunks)), task: None }
    }

    pub(super) fn is_started(&self) -> bool {
        self.task.is_some()
    }

    pub(super) fn start(
        &mut self,
        channel: &Arc<dyn DataChannel>,
        branch: &Arc<Branch>,
        reporter: &Reporter,
        max_message: u32,
    ) {
        let Some((control, chunks)) = self.queues.take() else { return };
        let sender = Sender {
            channel: Arc::clone(channel),
            branch: Arc::clone(branch),
            reporter: reporter.clone(),
            pilot: Pilot::new(Instant::now()),
            control,
            chunks,
            max_piece: max_message - DATA_HEADER_LEN as u32,
            current: None,
            finished: None,
        };
        self.task = Some(tokio::spawn(async move {
            let peer = sender.reporter.peer;
            if let Err(error) = sender.run().await {
                tracing::debug!(%peer, %error, "cannot write any more");
            }
        }));
    }

    /// Lets what was handed over before the link was dropped leave.
    pub(super) async fn finish(&mut self) {
        if let Some(task) = &mut self.task {
            let _ = timeout(FLUSH_TIMEOUT, task).await;
        }
    }

    pub(super) fn abort(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

struct Sender {
    channel: Arc<dyn DataChannel>,
    branch: Arc<Branch>,
    reporter: Reporter,
    pilot: Pilot,
    control: mpsc::Receiver<Vec<u8>>,
    chunks: mpsc::Receiver<OutgoingChunk>,
    /// What both sides' SCTP takes at once, which may be less than the peer's engine does.
    max_piece: u32,
    /// The chunk being cut, and how much of it is sent.
    current: Option<(OutgoingChunk, usize)>,
    /// A chunk that is sent and not yet said to be: there is no room for another.
    finished: Option<ChunkId>,
}

impl Sender {
    async fn run(mut self) -> Result<(), Error> {
        loop {
            self.report_finished().await?;
            let permit = self.current.as_ref().map(|_| self.pilot.permit(Instant::now()));
            let (now, at) = match permit {
                Some(Permit::Now) => (true, None),
                Some(Permit::At(at)) => (false, Some(at)),
                Some(Permit::AfterAck) | None => (false, None),
            };
            let idle = self.current.is_none() && self.finished.is_none();
            tokio::select! {
                biased;
                frame = self.control.recv() => match frame {
                    Some(frame) => self.send(BytesMut::from(&frame[..])).await?,
                    None => break,
                },
                () = self.branch.taken_in(), if self.pilot.is_waiting() => self.hear().await?,
                () = std::future::ready(()), if now => self.send_piece().await?,
                () = sleep_until(at.unwrap_or_else(Instant::now).into()), if at.is_some() => {}
                Some(chunk) = self.chunks.recv(), if idle => self.current = Some((chunk, 0)),
                () = sleep(LOOK_EVERY), if self.pilot.is_waiting() => self.hear().await?,
            }
        }
        while self.channel.outstanding_bytes().await? > 0 {
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn send(&mut self, frame: BytesMut) -> Result<(), Error> {
        let len = frame.len() as u64;
        self.channel.send(frame).await?;
        self.pilot.on_sent(Instant::now(), len);
        Ok(())
    }

    async fn send_piece(&mut self) -> Result<(), Error> {
        let Some((chunk, sent)) = &mut self.current else { return Ok(()) };
        let most = self.pilot.piece_len(chunk.piece_len.clamp(1, self.max_piece)) as usize;
        let piece = chunk.bytes.slice(*sent..(*sent + most).min(chunk.bytes.len()));
        // A chunk's length fits u32.
        let header = DataHeader { chunk: chunk.chunk, offset: *sent as u32 };
        *sent += piece.len();
        if *sent >= chunk.bytes.len() {
            self.finished = Some(chunk.chunk);
            self.current = None;
        }
        let mut frame = BytesMut::with_capacity(DATA_HEADER_LEN + piece.len());
        frame.extend_from_slice(&header.encode());
        frame.extend_from_slice(&piece);
        self.send(frame).await
    }

    /// Looks how much has arrived.
    async fn hear(&mut self) -> Result<(), Error> {
        let outstanding = self.channel.outstanding_bytes().await? as u64;
        let now = Instant::now();
        if let Some(round_trip) = self.branch.round_trip() {
            self.pilot.note_round_trip(now, round_trip);
        }
        self.pilot.on_outstanding(now, outstanding);
        Ok(())
    }

    /// Where the window is full, "sent" is said when it has room again: the engine's queues stay in charge.
    async fn report_finished(&mut self) -> Result<(), Error> {
        if self.pilot.has_room()
            && let Some(chunk) = self.finished.take()
        {
            self.reporter.report(LinkEvent::ChunkSent(chunk)).await?;
        }
        Ok(())
    }
}
