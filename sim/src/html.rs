//! One self-contained page with the plots of one or more runs: inline SVG, no scripts, nothing loaded from elsewhere.

use std::fmt::Write as _;

use crate::report::{Moment, Report};
use crate::table;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 36.0;
const TOP: f64 = 12.0;

/// Told apart also without colour vision (Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem;\
color:#1a1a1a;background:#fff}h1{font-size:1.5rem}h2{font-size:1.1rem;margin:1.5rem 0 .25rem}\
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(22rem,1fr));gap:0 2rem}svg{width:100%;height:auto}\
pre{overflow-x:auto;background:#f4f4f4;padding:1rem;font-size:13px}text{font:12px system-ui,sans-serif;fill:#333}\
figure{margin:0}figcaption{font-size:.85rem}figcaption span{white-space:nowrap;margin-right:1em}\
i{display:inline-block;width:.8em;height:.8em;margin-right:.3em}";

/// A line of a plot.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// The page.
#[must_use]
pub fn page(reports: &[Report]) -> String {
    let title = reports.first().map_or("headwater-sim", |report| report.scenario.as_str());
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{0}</title>\n<style>{STYLE}</style>\n\
         <h1>{0}</h1>\n<pre>{1}</pre>\n<div class=\"plots\">\n",
        escape(title),
        escape(&table::render(reports)),
    );
    for report in reports {
        let heading = format!("Bytes by source, {}", report.policy);
        page += &plot(&heading, "s", "MB/s", &by_source(&report.series));
    }
    let lines = |value: fn(&Moment) -> f64| -> Vec<Line> {
        reports
            .iter()
            .map(|report| Line { name: report.policy.clone(), points: over_time(&report.series, value) })
            .collect()
    };
    page += &plot("Copies a segment that left the origin for viewers, by second", "s", "copies", &lines(|m| m.copies));
    page += &plot("Distance behind live", "s", "s behind", &lines(|m| m.behind_s));
    page += &plot("Share of viewers that stall", "s", "%", &lines(|m| m.stalled * 100.0));
    let segments: Vec<Line> = reports
        .iter()
        .map(|report| {
            let copies = report.copies_by_segment.iter().map(|copies| copies[0] + copies[1]);
            Line { name: report.policy.clone(), points: (0..).map(f64::from).zip(copies).collect() }
        })
        .collect();
    page += &plot("Copies of each segment that left the origin for viewers", "segment", "copies", &segments);
    let ratios: Vec<Line> = reports
        .iter()
        .map(|report| {
            let bins = report.upload_histogram.iter().map(|share| share * 100.0);
            Line { name: report.policy.clone(), points: (0..).map(|bin| f64::from(bin) / 10.0).zip(bins).collect() }
        })
        .collect();
    page += &plot("Upload by download: viewers in each tenth", "ratio (3: and more)", "% of viewers", &ratios);
    page + "</div>\n</html>\n"
}

fn over_time(series: &[Moment], value: fn(&Moment) -> f64) -> Vec<(f64, f64)> {
    series.iter().map(|moment| (moment.second as f64, value(moment))).collect()
}

fn by_source(series: &[Moment]) -> Vec<Line> {
    let line = |name: &str, value: fn(&Moment) -> f64| Line { name: name.to_owned(), points: over_time(series, value) };
    vec![
        line("viewers", |moment| moment.bytes.viewers as f64 / 1e6),
        line("origin", |moment| (moment.bytes.player_http + moment.bytes.engine_http) as f64 / 1e6),
        line("seeds", |moment| moment.bytes.seeds as f64 / 1e6),
    ]
}

fn plot(title: &str, x: &str, y: &str, lines: &[Line]) -> String {
    let all = || lines.iter().flat_map(|line| line.points.iter().copied());
    let most = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0_f64, f64::max);
    let (right, top) = (most(&mut all().map(|(x, _)| x)).max(1.0), round_up(most(&mut all().map(|(_, y)| y))));
    let at_x = |value: f64| LEFT + value / right * (WIDTH - LEFT - 8.0);
    let at_y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - BOTTOM - TOP);
    let mut svg = format!(
        "<figure><h2>{0}</h2>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{0}\">\n",
        escape(title)
    );
    for i in 0..=4 {
        let (value, place) = (top * f64::from(i) / 4.0, at_y(top * f64::from(i) / 4.0));
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {place:.1}H{WIDTH}\" stroke=\"#ddd\"/><text x=\"{:.0}\" y=\"{:.1}\" \
             text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            place + 4.0,
            number(value)
        );
        let across = right * f64::from(i) / 4.0;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
            at_x(across),
            HEIGHT - BOTTOM + 16.0,
            number(across)
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"4\" y=\"{:.0}\">{}</text><text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
        TOP,
        escape(y),
        WIDTH / 2.0,
        HEIGHT - 2.0,
        escape(x)
    );
    for (line, colour) in lines.iter().zip(COLOURS) {
        let path = line.points.iter().map(|(x, y)| format!("{:.1},{:.1}", at_x(*x), at_y(*y)));
        let path: Vec<String> = path.collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
            path.join(" ")
        );
    }
    svg += "</svg>\n<figcaption>";
    for (line, colour) in lines.iter().zip(COLOURS) {
        let _ = write!(svg, "<span><i style=\"background:{colour}\"></i>{}</span> ", escape(&line.name));
    }
    svg + "</figcaption></figure>\n"
}

/// The next number that reads well on an axis.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10.0_f64.powf(value.log10().floor());
    let steps = [1.0, 1.2, 1.6, 2.0, 2.4, 3.2, 4.0, 6.0, 8.0, 10.0];
    steps.into_iter().find(|step| step * power >= value).unwrap_or(10.0) * power
}

fn number(value: f64) -> String {
    let digits = if value >= 100.0 || value.fract() == 0.0 { 0 } else { 2 };
    format!("{value:.digits$}")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_numbers_that_read_well() {
        for (value, expected) in [(0.0, 1.0), (0.97, 1.0), (13.0, 16.0), (57.0, 60.0), (999.0, 1000.0)] {
            assert!((round_up(value) - expected).abs() < 1e-9, "{value}: {}", round_up(value));
        }
    }

    #[test]
    fn names_cannot_break_the_page() {
        assert_eq!(escape("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }
}
