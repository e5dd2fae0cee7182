//! Manifests of every kind of addressing, read into names and places.

use super::*;

fn read(text: &str, now: f64) -> Result<Manifest, PlaylistError> {
    let now = UNIX_EPOCH + Duration::from_secs_f64(now);
    Manifest::parse(&Url::parse("http://o.example/d/m.mpd").unwrap(), text, now)
}

fn mpd(attributes: &str, representation: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" {attributes}><Period>\
         <AdaptationSet mimeType=\"video/mp4\"><Representation id=\"v\" bandwidth=\"5000\">{representation}\
         </Representation></AdaptationSet></Period></MPD>"
    )
}

fn paths(media: &Media) -> Vec<(u64, String)> {
    let path = |listed: &Listed| {
        let range = listed.location.range.map_or_else(String::new, |range| format!("@{}+{}", range.offset, range.len));
        format!("{}{range}", listed.location.url.path())
    };
    media.segments.iter().map(|listed| (listed.seq.0, path(listed))).collect()
}

fn place(text: &str) -> Vec<(u64, String)> {
    paths(&read(text, 0.0).unwrap().media("v", Numbering::Place).unwrap())
}

fn named(names: &[&str]) -> Vec<(u64, String)> {
    (0..).zip(names.iter().map(|name| format!("/d/{name}"))).collect()
}

const VOD: &str = "type=\"static\" mediaPresentationDuration=\"PT5S\"";

#[test]
fn templates_by_duration_end_with_the_period() {
    let text = mpd(
        VOD,
        "<SegmentTemplate timescale=\"10\" duration=\"20\" startNumber=\"7\" initialization=\"i-$RepresentationID$.mp4\" media=\"$RepresentationID$/$Number%03d$-$Bandwidth$$$.m4s\"/>",
    );
    assert_eq!(place(&text), named(&["v/007-5000$.m4s", "v/008-5000$.m4s", "v/009-5000$.m4s"]));
    assert_eq!(read(&text, 0.0).unwrap().initializations[0].path(), "/d/i-v.mp4");
    let text = mpd(
        VOD,
        "<SegmentTemplate timescale=\"10\" duration=\"20\" presentationTimeOffset=\"100\" media=\"$Time$.m4s\"/>",
    );
    assert_eq!(place(&text), named(&["100.m4s", "120.m4s", "140.m4s"]));
}

#[test]
fn timelines_repeat_and_skip() {
    let timeline =
        "<SegmentTimeline><S t=\"5\" d=\"10\" r=\"1\"/><S t=\"40\" d=\"5\"/><S d=\"5\" r=\"-1\"/></SegmentTimeline>";
    let text =
        mpd(VOD, &format!("<SegmentTemplate timescale=\"12\" media=\"$Time$.m4s\">{timeline}</SegmentTemplate>"));
    assert_eq!(place(&text), named(&["5.m4s", "15.m4s", "40.m4s", "45.m4s", "50.m4s", "55.m4s"]));
    let text = mpd(
        VOD,
        &format!(
            "<SegmentTemplate timescale=\"12\" startNumber=\"3\" media=\"$Number$.m4s\">{timeline}</SegmentTemplate>"
        ),
    );
    assert_eq!(place(&text), named(&["3.m4s", "4.m4s", "5.m4s", "6.m4s", "7.m4s", "8.m4s"]));
}

#[test]
fn templates_inherit_what_they_do_not_say() {
    let text = mpd(VOD, "<SegmentTemplate media=\"x$Number$.m4s\"/>")
        .replace("<Period>", "<Period><SegmentTemplate timescale=\"2\" duration=\"5\" startNumber=\"0\"/>")
        .replace("<Representation ", "<SegmentTemplate media=\"y\"/><Representation ");
    assert_eq!(place(&text), named(&["x0.m4s", "x1.m4s"]));
}

#[test]
fn lists_name_files_and_ranges_under_base_urls() {
    let list = "<BaseURL>far/all.mp4</BaseURL><SegmentList duration=\"2\"><SegmentURL mediaRange=\"100-149\"/>\
                <SegmentURL media=\"b.mp4\"/></SegmentList>";
    assert_eq!(place(&mpd(VOD, list)), named(&["far/all.mp4@100+50", "far/b.mp4"]));
}

#[test]
fn files_with_an_index_have_what_the_index_says() {
    let base = "<BaseURL>all.mp4</BaseURL><SegmentBase indexRange=\"800-899\"/>";
    let mut manifest = read(&mpd(VOD, base), 0.0).unwrap();
    let index = |url: &Url, range: Range| {
        assert_eq!((url.path(), range), ("/d/all.mp4", Range { offset: 800, len: 100 }));
        let mut bytes = vec![0, 0, 0, 44, b's', b'i', b'd', b'x'];
        for number in [0, 1, 10, 0, 6, 1, 500, 20, 0x9000_0000_u32] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        Ok::<_, IndexError>(bytes)
    };
    manifest.read_indexes(index).unwrap();
    let media = manifest.media("v", Numbering::Place).unwrap();
    assert_eq!(paths(&media), named(&["all.mp4@850+500"]));
    let mut manifest = read(&mpd(VOD, base), 0.0).unwrap();
    assert!(matches!(manifest.read_indexes(|_, _| Ok(vec![1, 2])), Err(IndexError::NoIndex { .. })));
}

#[test]
fn a_live_template_has_what_time_has_made_available() {
    let live = "type=\"dynamic\" availabilityStartTime=\"1970-01-01T00:00:10Z\" timeShiftBufferDepth=\"PT6S\"";
    let text = mpd(live, "<SegmentTemplate duration=\"2\" media=\"$Number$.m4s\"/>");
    let at = |now| paths(&read(&text, now).unwrap().media("v", Numbering::Time(2000)).unwrap());
    assert_eq!(at(21.9), [(2, "/d/3.m4s".to_owned()), (3, "/d/4.m4s".to_owned()), (4, "/d/5.m4s".to_owned())]);
    assert_eq!(at(22.1).last().unwrap(), &(5, "/d/6.m4s".to_owned()));
    assert_eq!(read(&text, 5.0), Err(PlaylistError::NoSegments));
}

#[test]
fn everyone_numbers_a_live_timeline_alike_wherever_their_window_is() {
    // Audio whose segments have 93 or 94 frames, at a time that has been running for fifty years.
    let durations: Vec<f64> = (0..4000).map(|i| if i % 4 == 0 { 93.0 } else { 94.0 } * 1024.0 / 48000.0).collect();
    let mut start = 1.6e9;
    let parts: Vec<Part> = durations
        .iter()
        .enumerate()
        .map(|(i, duration)| {
            let location = Location { url: Url::parse(&format!("http://o/{i}")).unwrap(), range: None };
            let part = Part { start, duration: *duration, location };
            start += duration;
            part
        })
        .collect();
    let unit = usual_ms(&parts[100..110]);
    assert_eq!((unit, usual_ms(&parts[2001..2013])), (2005, 2005));
    let all: std::collections::BTreeMap<Url, u64> =
        numbered(&parts, Numbering::Time(unit)).into_iter().map(|listed| (listed.location.url, listed.seq.0)).collect();
    assert!(all.len() >= 3980, "{} of 4000", all.len());
    let numbers: std::collections::BTreeSet<u64> = all.values().copied().collect();
    assert_eq!(numbers.len(), all.len(), "no number twice");
    for from in (0..3900).step_by(37) {
        for listed in numbered(&parts[from..from + 30], Numbering::Time(unit)) {
            assert_eq!(all.get(&listed.location.url), Some(&listed.seq.0));
        }
    }
}

#[test]
fn periods_follow_each_other_and_pictures_are_left_out() {
    let period = |id: &str, base: &str| {
        format!(
            "<Period duration=\"PT4S\"><BaseURL>{base}/</BaseURL><AdaptationSet contentType=\"audio\"><Representation \
             id=\"{id}\"><SegmentTemplate duration=\"2\" media=\"$Number$.m4s\"/></Representation></AdaptationSet>\
             <AdaptationSet mimeType=\"image/jpeg\"><Representation id=\"t\"><SegmentTemplate duration=\"2\" \
             media=\"$Number$.jpg\"/></Representation></AdaptationSet></Period>"
        )
    };
    let text = format!("<MPD type=\"static\">{}{}</MPD>", period("a", "one"), period("a", "two"));
    let manifest = read(&text, 0.0).unwrap();
    assert_eq!(manifest.renditions.len(), 1);
    assert_eq!(manifest.renditions[0].kind, MediaKind::Audio);
    let media = manifest.media("a", Numbering::Place).unwrap();
    assert_eq!(paths(&media), named(&["one/1.m4s", "one/2.m4s", "two/1.m4s", "two/2.m4s"]));
    assert_eq!(manifest.renditions[0].segments[2].start, 4.0);
}

#[test]
fn counts_that_claim_too_much_are_cut() {
    let timeline = "<SegmentTimeline><S t=\"0\" d=\"1\" r=\"9000000000\"/></SegmentTimeline>";
    let text = mpd(VOD, &format!("<SegmentTemplate media=\"$Time$\">{timeline}</SegmentTemplate>"));
    assert_eq!(place(&text).len(), MAX_SEGMENTS);
    for broken in ["<MPD", "<MPD type=\"dynamic\"><Period/></MPD>", "<MPD><Period duration=\"Pxyz\"/></MPD>"] {
        assert!(read(broken, 0.0).is_err(), "{broken}");
    }
}
