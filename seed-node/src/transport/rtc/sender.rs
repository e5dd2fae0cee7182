//! The writing half of a connection: control frames first, chunks as fast as the path takes them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until, timeout};
use webrtc::data_channel::DataChannel;
use webrtc::error::Error;

use super::super::connection::{FLUSH_TIMEOUT, LOOK_EVERY, Reporter};
use super::super::cutter::Cutter;
use super::super::mux::Branch;
use super::super::pilot::Permit;
use super::super::{LinkEvent, OutgoingChunk};

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
            cutter: Cutter::new(Instant::now(), max_message),
            control,
            chunks,
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
    cutter: Cutter,
    control: mpsc::Receiver<Vec<u8>>,
    chunks: mpsc::Receiver<OutgoingChunk>,
}

impl Sender {
    async fn run(mut self) -> Result<(), Error> {
        loop {
            if let Some(chunk) = self.cutter.finished() {
                self.reporter.report(LinkEvent::ChunkSent(chunk)).await?;
            }
            let (now, at) = match self.cutter.permit(Instant::now()) {
                Some(Permit::Now) => (true, None),
                Some(Permit::At(at)) => (false, Some(at)),
                Some(Permit::AfterAck) | None => (false, None),
            };
            tokio::select! {
                biased;
                frame = self.control.recv() => match frame {
                    Some(frame) => self.send(BytesMut::from(&frame[..])).await?,
                    None => break,
                },
                () = self.branch.taken_in(), if self.cutter.is_waiting() => self.hear().await?,
                () = std::future::ready(()), if now => if let Some(frame) = self.cutter.cut() {
                    self.send(frame).await?;
                },
                () = sleep_until(at.unwrap_or_else(Instant::now).into()), if at.is_some() => {}
                Some(chunk) = self.chunks.recv(), if self.cutter.is_idle() => self.cutter.take(chunk),
                () = sleep(LOOK_EVERY), if self.cutter.is_waiting() => self.hear().await?,
            }
        }
        while self.channel.outstanding_bytes().await? > 0 {
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn send(&mut self, frame: BytesMut) -> Result<(), Error> {
        let len = frame.len();
        self.channel.send(frame).await?;
        self.cutter.on_sent(Instant::now(), len);
        Ok(())
    }

    /// Looks how much has arrived.
    async fn hear(&mut self) -> Result<(), Error> {
        let outstanding = self.channel.outstanding_bytes().await?;
        self.cutter.hear(Instant::now(), outstanding as usize, self.branch.round_trip());
        Ok(())
    }
}
