//! How many tests passed and failed, read from what test runners print.

use std::path::PathBuf;

use super::Tally;

/// Reads the summary lines of cargo-nextest, libtest and `node --test`, and adds them up.
///
/// A runner that failed without saying so (it did not compile, it crashed) counts as one failure.
pub(crate) fn tally(output: &str, success: bool) -> Tally {
    let mut sum = Tally::default();
    for line in output.lines() {
        let line = without_colours(line);
        if let Some(found) = nextest(&line).or_else(|| libtest(&line)).or_else(|| node(&line)) {
            sum.passed += found.passed;
            sum.failed += found.failed;
        }
    }
    if !success && sum.failed == 0 {
        sum.failed = 1;
    }
    sum
}

/// `Summary [   0.1s] 16 tests run: 14 passed (1 slow), 1 failed, 1 timed out, 2 skipped`
fn nextest(line: &str) -> Option<Tally> {
    let (_, counts) = line.trim_start().strip_prefix("Summary [")?.split_once(" run: ")?;
    let failures = ["failed", "timed out", "exec failed"];
    Some(Tally {
        passed: before(counts, "passed"),
        failed: failures.into_iter().map(|word| before(counts, word)).sum(),
    })
}

/// `test result: FAILED. 15 passed; 1 failed; 0 ignored; …`
fn libtest(line: &str) -> Option<Tally> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    Some(Tally { passed: before(counts, "passed"), failed: before(counts, "failed") })
}

/// `ℹ pass 6`, or `# pass 6` from the TAP reporter; one line for each verdict.
fn node(line: &str) -> Option<Tally> {
    let mut words = line.strip_prefix("ℹ ").or_else(|| line.strip_prefix("# "))?.split_whitespace();
    let (verdict, number) = (words.next()?, words.next()?.parse().ok()?);
    match verdict {
        "pass" => Some(Tally { passed: number, failed: 0 }),
        "fail" | "cancelled" => Some(Tally { passed: 0, failed: number }),
        _ => None,
    }
}

/// Of these files, those in which `node --test` says that a test failed: `test at www/tests/abr.test.mjs:96:7`.
pub(crate) fn files_with_failures(output: &str, files: &[PathBuf]) -> Vec<PathBuf> {
    let named: Vec<PathBuf> = output
        .lines()
        .filter_map(|line| without_colours(line).strip_prefix("test at ").map(str::to_owned))
        .filter_map(|place| place.rsplitn(3, ':').nth(2).map(PathBuf::from))
        .collect();
    files.iter().filter(|file| named.iter().any(|name| file.ends_with(name))).cloned().collect()
}

/// The number in front of a word, in a list parted by commas or semicolons; 0 where it is not listed.
fn before(counts: &str, word: &str) -> u32 {
    counts
        .split([',', ';'])
        .filter_map(|count| count.trim().split_once(' '))
        .find(|(_, what)| *what == word || what.starts_with(&format!("{word} (")))
        .and_then(|(number, _)| number.parse().ok())
        .unwrap_or(0)
}

fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((text, coloured)) = rest.split_once("\u{1b}[") {
        plain.push_str(text);
        rest = coloured.split_once('m').map_or("", |(_, after)| after);
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_runner_is_understood() {
        let nextest = "\u{1b}[32m     Summary\u{1b}[0m [   0.123s] 16 tests run: 12 passed (1 slow), 3 failed, 1 timed out, 2 skipped";
        assert_eq!(tally(nextest, false), Tally { passed: 12, failed: 4 });
        let libtest = "test result: ok. 15 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.02s\n\
                       test result: FAILED. 2 passed; 1 failed; 0 ignored";
        assert_eq!(tally(libtest, false), Tally { passed: 17, failed: 1 });
        let node = "ℹ tests 7\nℹ pass 5\nℹ fail 1\nℹ cancelled 1\nℹ skipped 0\n";
        assert_eq!(tally(node, false), Tally { passed: 5, failed: 2 });
    }

    #[test]
    fn files_with_failures_are_named_once() {
        let files = ["/r/www/tests/abr.test.mjs", "/r/www/tests/demo.test.mjs"].map(PathBuf::from);
        let output =
            "\u{1b}[31mtest at www/tests/abr.test.mjs:96:7\u{1b}[39m\n✖ a\ntest at www/tests/abr.test.mjs:9:1\n";
        assert_eq!(files_with_failures(output, &files), files[..1]);
        assert!(files_with_failures("ℹ fail 0", &files).is_empty());
    }

    #[test]
    fn a_runner_that_crashed_counts_as_a_failure() {
        assert_eq!(tally("error: could not compile", false), Tally { passed: 0, failed: 1 });
        assert_eq!(tally("", true), Tally::default());
    }
}
