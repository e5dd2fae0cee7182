//! HTTP requests that the engine asks for: one task each, which cuts the body into chunks and hashes them.

use bytes::{Bytes, BytesMut};
use headwater_swarm::FetchId;
use headwater_wire::limits::{CHUNK_LEN, MAX_CATALOGUE_FILE_LEN, MAX_SEGMENT_LEN};
use headwater_wire::{ByteRange, ChunkHash, ChunkIndex, SegmentLen, catalogue};
use reqwest::StatusCode;
use tokio::sync::mpsc;
use url::Url;

use super::{Location, OriginAccess};
use crate::http::{Http, HttpError, Range, next_piece, whole_len};

/// What a request tells the node.
#[derive(Debug)]
pub(super) enum FetchReport {
    Head { fetch: FetchId, ranged: bool, total: Option<SegmentLen> },
    Chunk { fetch: FetchId, index: ChunkIndex, bytes: Bytes, hash: ChunkHash },
    Done { fetch: FetchId, total: SegmentLen },
    Failed { fetch: FetchId, status: Option<u16> },
    Catalogue { batches: Vec<Vec<u8>>, found: bool },
}

/// Why a request gave no segment.
enum Failure {
    Http(HttpError),
    /// The node is gone.
    Unheard,
    /// Empty, too long, or not what was asked for.
    NoSegment,
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        Self::Http(error)
    }
}

/// One request.
pub(super) struct Fetch {
    pub(super) id: FetchId,
    pub(super) http: Http,
    pub(super) location: Location,
    pub(super) range: Option<ByteRange>,
    pub(super) reports: mpsc::Sender<FetchReport>,
}

impl Fetch {
    /// Runs it to its end.
    pub(super) async fn run(self) {
        let status = match self.attempt().await {
            Ok(()) | Err(Failure::Unheard) => return,
            Err(Failure::Http(error)) => {
                tracing::debug!(%error, "fetch failed");
                error.status()
            }
            Err(Failure::NoSegment) => None,
        };
        let _ = self.reports.send(FetchReport::Failed { fetch: self.id, status }).await;
    }

    async fn attempt(&self) -> Result<(), Failure> {
        let url = &self.location.url;
        let part_start = self.location.range.map_or(0, |part| part.offset);
        let request_range = match (self.range, self.location.range) {
            (Some(range), _) => {
                let offset = part_start + u64::from(range.start);
                Some(Range { offset, len: u64::from(range.len()) })
            }
            (None, part) => part,
        };
        let mut response = self.http.request(url, request_range).await?;
        let partial = response.status() == StatusCode::PARTIAL_CONTENT;
        if self.location.range.is_some() && !partial {
            return Err(HttpError::NoRanges { url: url.to_string() }.into());
        }
        let ranged = self.range.is_some() && partial;
        let announced = match self.location.range {
            Some(part) => Some(part.len),
            None if partial => whole_len(&response),
            None => response.content_length(),
        };
        let announced = announced.map(segment_len).transpose()?;
        self.report(FetchReport::Head { fetch: self.id, ranged, total: announced }).await?;

        let start = if ranged { self.range.map_or(0, |range| range.start) } else { 0 };
        let mut index = start / CHUNK_LEN;
        let (mut rest, mut received) = (BytesMut::new(), u64::from(start));
        while let Some(piece) = next_piece(&mut response, url).await? {
            received += piece.len() as u64;
            if received > u64::from(MAX_SEGMENT_LEN) {
                return Err(Failure::NoSegment);
            }
            rest.extend_from_slice(&piece);
            while rest.len() >= CHUNK_LEN as usize {
                let chunk = rest.split_to(CHUNK_LEN as usize).freeze();
                self.report_chunk(index, chunk).await?;
                index += 1;
            }
        }
        if !rest.is_empty() {
            self.report_chunk(index, rest.freeze()).await?;
        }
        let expected = match self.range.filter(|_| ranged) {
            Some(range) => Some(u64::from(range.end)),
            None => announced.map(|len| u64::from(len.bytes())),
        };
        if expected.is_some_and(|expected| expected != received) {
            return Err(Failure::NoSegment);
        }
        let total = match announced {
            Some(total) => total,
            None if ranged => return Err(Failure::NoSegment),
            None => segment_len(received)?,
        };
        self.report(FetchReport::Done { fetch: self.id, total }).await
    }

    async fn report_chunk(&self, index: u32, bytes: Bytes) -> Result<(), Failure> {
        let hash = ChunkHash::of(&bytes);
        self.report(FetchReport::Chunk { fetch: self.id, index: ChunkIndex(index), bytes, hash }).await
    }

    async fn report(&self, report: FetchReport) -> Result<(), Failure> {
        self.reports.send(report).await.map_err(|_| Failure::Unheard)
    }
}

fn segment_len(len: u64) -> Result<SegmentLen, Failure> {
    u32::try_from(len).ok().and_then(|len| SegmentLen::new(len).ok()).ok_or(Failure::NoSegment)
}

/// Fetches the catalogue file.
pub(super) async fn fetch_catalogue(origin: Option<OriginAccess>, reports: mpsc::Sender<FetchReport>) {
    let batches = match origin {
        Some(origin) => load_catalogue(&origin.http, &origin.catalogue).await,
        None => None,
    };
    let found = batches.is_some();
    let _ = reports.send(FetchReport::Catalogue { batches: batches.unwrap_or_default(), found }).await;
}

async fn load_catalogue(http: &Http, url: &Url) -> Option<Vec<Vec<u8>>> {
    let file = match http.get(url, None, MAX_CATALOGUE_FILE_LEN, 1).await {
        Ok(file) => file,
        Err(error) => {
            tracing::debug!(%error, "no catalogue file");
            return None;
        }
    };
    match catalogue::split_file(&file.bytes) {
        Ok(batches) => Some(batches.into_iter().map(<[u8]>::to_vec).collect()),
        Err(error) => {
            tracing::warn!(%url, %error, "the catalogue file is of no use");
            None
        }
    }
}
