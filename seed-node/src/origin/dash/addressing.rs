//! The ways in which a manifest says where segments are: SegmentTemplate (by duration or timeline, with numbers or times),
//! SegmentList, SegmentBase.

use std::time::{Duration, SystemTime};

use dash_mpd::{
    AdaptationSet, MPD, Period, Representation, SegmentBase, SegmentList, SegmentTemplate, SegmentTimeline,
};
use url::Url;

use super::super::playlist::{PlaylistError, join};
use super::{IndexedFile, MAX_SEGMENTS, Part, since_epoch};
use crate::http::Range;
use crate::node::Location;

/// How far back a live window without a depth goes.
const USUAL_DEPTH: Duration = Duration::from_secs(300);

/// Times of a period, in seconds.
pub(super) struct Window {
    /// Where the period begins in the presentation.
    start: f64,
    duration: Option<f64>,
    /// What of the presentation is available: from and to.
    available: Option<(f64, f64)>,
}

impl Window {
    pub(super) fn new(mpd: &MPD, live: bool, now: SystemTime, start: Duration, duration: Option<Duration>) -> Self {
        let began = mpd.availabilityStartTime.map_or(0.0, |time| time.timestamp_millis() as f64 / 1000.0);
        let depth = mpd.timeShiftBufferDepth.unwrap_or(USUAL_DEPTH).as_secs_f64();
        let edge = since_epoch(now) - began;
        Self {
            start: start.as_secs_f64(),
            duration: duration.map(|duration| duration.as_secs_f64()),
            available: live.then_some((edge - depth, edge)),
        }
    }
}

/// Where the segments of a representation are in one period.
#[derive(Default)]
pub(super) struct Addressing {
    pub(super) initialization: Option<Url>,
    pub(super) parts: Vec<Part>,
    pub(super) indexed: Option<IndexedFile>,
}

/// A segment as a timeline has it.
struct Timed {
    /// In the period's own units.
    ticks: u64,
    number: u64,
    start: f64,
    duration: f64,
}

impl Addressing {
    pub(super) fn of(
        period: &Period,
        set: &AdaptationSet,
        representation: &Representation,
        window: &Window,
        base: &Url,
    ) -> Result<Self, PlaylistError> {
        let lists = [&representation.SegmentList, &set.SegmentList, &period.SegmentList];
        let bases = [&representation.SegmentBase, &set.SegmentBase, &period.SegmentBase];
        let template = merged([&representation.SegmentTemplate, &set.SegmentTemplate, &period.SegmentTemplate]);
        if let Some(template) = template {
            by_template(&template, representation, window, base)
        } else if let Some(list) = lists.into_iter().flatten().next() {
            by_list(list, window, base)
        } else if let Some(file) = bases.into_iter().flatten().next() {
            Ok(by_index(file, window, base))
        } else {
            // One file of which nothing is said: a subtitle, most often.
            let duration = window.duration.unwrap_or_default();
            let location = Location { url: base.clone(), range: None };
            Ok(Self { parts: vec![Part { start: window.start, duration, location }], ..Self::default() })
        }
    }
}

/// What the inner template says, and for the rest, what the outer ones say.
fn merged(templates: [&Option<SegmentTemplate>; 3]) -> Option<SegmentTemplate> {
    let mut templates = templates.into_iter().flatten();
    let mut inner = templates.next()?.clone();
    for outer in templates.cloned() {
        inner.media = inner.media.or(outer.media);
        inner.initialization = inner.initialization.or(outer.initialization);
        inner.startNumber = inner.startNumber.or(outer.startNumber);
        inner.duration = inner.duration.or(outer.duration);
        inner.timescale = inner.timescale.or(outer.timescale);
        inner.presentationTimeOffset = inner.presentationTimeOffset.or(outer.presentationTimeOffset);
        inner.availabilityTimeOffset = inner.availabilityTimeOffset.or(outer.availabilityTimeOffset);
        inner.SegmentTimeline = inner.SegmentTimeline.or(outer.SegmentTimeline);
    }
    Some(inner)
}

fn by_template(
    template: &SegmentTemplate,
    representation: &Representation,
    window: &Window,
    base: &Url,
) -> Result<Addressing, PlaylistError> {
    let scale = scale_of(template.timescale);
    let offset = template.presentationTimeOffset.unwrap_or(0);
    let first = template.startNumber.unwrap_or(1);
    let initialization = template.initialization.as_deref().map(|name| fill(name, representation, 0, 0));
    let initialization = initialization.map(|name| join(base, &name)).transpose()?;
    let Some(media) = &template.media else { return Ok(Addressing { initialization, ..Addressing::default() }) };
    let timed = match (&template.SegmentTimeline, template.duration) {
        (Some(timeline), _) => by_timeline(timeline, scale, offset, first, window),
        (None, Some(duration)) if duration > 0.0 => {
            let early = template.availabilityTimeOffset.filter(|early| early.is_finite()).unwrap_or(0.0);
            by_duration(duration, scale, offset, first, early, window)
        }
        _ => Vec::new(),
    };
    let part = |timed: Timed| {
        let url = join(base, &fill(media, representation, timed.number, timed.ticks))?;
        Ok(Part { start: timed.start, duration: timed.duration, location: Location { url, range: None } })
    };
    let parts = timed.into_iter().map(part).collect::<Result<_, _>>()?;
    Ok(Addressing { initialization, parts, indexed: None })
}

fn by_timeline(timeline: &SegmentTimeline, scale: f64, offset: u64, first: u64, window: &Window) -> Vec<Timed> {
    let mut all = Vec::new();
    let (mut ticks, mut number) = (0, first);
    for (place, run) in timeline.segments.iter().enumerate() {
        ticks = run.t.unwrap_or(ticks);
        number = run.n.unwrap_or(number);
        // A negative count goes on to the next run, or to the end of the period.
        let until = timeline.segments.get(place + 1).and_then(|next| next.t);
        let until = until.or(window.duration.map(|duration| offset.saturating_add((duration * scale).round() as u64)));
        let count = match run.r.unwrap_or(0) {
            repeats if repeats >= 0 => repeats.unsigned_abs().saturating_add(1),
            _ => until.map_or(1, |until| until.saturating_sub(ticks).div_ceil(run.d.max(1))),
        };
        for _ in 0..count {
            if all.len() >= MAX_SEGMENTS || run.d == 0 {
                return all;
            }
            let start = window.start + (ticks as f64 - offset as f64) / scale;
            all.push(Timed { ticks, number, start, duration: run.d as f64 / scale });
            ticks = ticks.saturating_add(run.d);
            number = number.saturating_add(1);
        }
    }
    all
}

fn by_duration(duration: f64, scale: f64, offset: u64, first: u64, early: f64, window: &Window) -> Vec<Timed> {
    let seconds = duration / scale;
    let end = window.duration.map(|end| (end / seconds - 1e-6).ceil());
    // A live segment is there once it has ended.
    let (from, to) = match window.available {
        Some((from, to)) => {
            let available = ((to - window.start + early) / seconds).floor();
            (((from - window.start) / seconds).floor().max(0.0), end.map_or(available, |end| end.min(available)))
        }
        None => (0.0, end.unwrap_or(0.0)),
    };
    // Also where one of them is no number at all.
    if !(from..f64::MAX).contains(&to) {
        return Vec::new();
    }
    let (from, to) = (from as u64, to as u64);
    let timed = |place: u64| Timed {
        ticks: offset.saturating_add((place as f64 * duration).round() as u64),
        number: first.saturating_add(place),
        start: window.start + place as f64 * seconds,
        duration: seconds,
    };
    (from.max(to.saturating_sub(MAX_SEGMENTS as u64))..to).map(timed).collect()
}

fn by_list(list: &SegmentList, window: &Window, base: &Url) -> Result<Addressing, PlaylistError> {
    let scale = scale_of(list.timescale);
    let count = list.segment_urls.len().min(MAX_SEGMENTS);
    let timed: Vec<Timed> = if let Some(timeline) = &list.SegmentTimeline {
        by_timeline(timeline, scale, 0, 1, window)
    } else {
        let whole = window.duration.unwrap_or_default();
        let seconds = list.duration.map_or(whole, |ticks| ticks as f64 / scale);
        let start = |place: usize| window.start + place as f64 * seconds;
        (0..count).map(|place| Timed { ticks: 0, number: 0, start: start(place), duration: seconds }).collect()
    };
    let part = |(segment, timed): (&dash_mpd::SegmentURL, Timed)| {
        let url = segment.media.as_deref().map_or_else(|| Ok(base.clone()), |media| join(base, media))?;
        let range = segment.mediaRange.as_deref().and_then(range_of);
        Ok(Part { start: timed.start, duration: timed.duration, location: Location { url, range } })
    };
    let parts = list.segment_urls.iter().zip(timed).map(part).collect::<Result<_, _>>()?;
    let named = list.Initialization.as_ref().and_then(|init| init.sourceURL.as_deref());
    let initialization = named.map(|name| join(base, name)).transpose()?;
    Ok(Addressing { initialization, parts, indexed: None })
}

fn by_index(file: &SegmentBase, window: &Window, base: &Url) -> Addressing {
    let Some(index) = file.indexRange.as_deref().and_then(range_of) else { return Addressing::default() };
    let offset = file.presentationTimeOffset.unwrap_or(0) as f64 / scale_of(file.timescale);
    let indexed = Some(IndexedFile { url: base.clone(), index, offset: window.start - offset });
    Addressing { indexed, ..Addressing::default() }
}

fn scale_of(timescale: Option<u64>) -> f64 {
    timescale.unwrap_or(1).max(1) as f64
}

/// Reads `first-last`.
fn range_of(text: &str) -> Option<Range> {
    let (first, last) = text.split_once('-')?;
    let (first, last) = (first.trim().parse::<u64>().ok()?, last.trim().parse::<u64>().ok()?);
    Some(Range { offset: first, len: last.checked_sub(first)?.checked_add(1)? })
}

/// Fills a template's names in (ISO/IEC 23009-1, 5.3.9.4.4). What is no name stays as it is.
fn fill(template: &str, representation: &Representation, number: u64, time: u64) -> String {
    let mut filled = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        filled += before;
        let Some((name, after)) = after.split_once('$') else {
            filled.push('$');
            rest = after;
            break;
        };
        rest = after;
        let (name, width) = match name.split_once("%0") {
            Some((name, width)) => (name, width.trim_end_matches('d').parse::<usize>().unwrap_or(1).min(20)),
            None => (name, 1),
        };
        match name {
            "" => filled.push('$'),
            "RepresentationID" => filled += representation.id.as_deref().unwrap_or_default(),
            "Number" => filled += &format!("{number:0width$}"),
            "Time" => filled += &format!("{time:0width$}"),
            "Bandwidth" => filled += &format!("{:0width$}", representation.bandwidth.unwrap_or(0)),
            other => filled += &format!("${other}$"),
        }
    }
    filled + rest
}
