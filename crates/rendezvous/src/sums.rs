//! What the members of a swarm carried, all together, kept up to date as they come, report and go.

use headwater_wire::signal::StatsReport;

/// Sums of what clients say: wide enough that nothing they say overflows, so that what was added can be taken off again.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sums {
    http: u128,
    seed: u128,
    viewer: u128,
    uploaded: u128,
    neighbours: u64,
}

impl Sums {
    pub(crate) fn add(&mut self, stats: &StatsReport) {
        self.http += u128::from(stats.http_bytes);
        self.seed += u128::from(stats.seed_bytes);
        self.viewer += u128::from(stats.viewer_bytes);
        self.uploaded += u128::from(stats.uploaded_bytes);
        self.neighbours += u64::from(stats.neighbours);
    }

    /// Takes off what was added before.
    pub(crate) fn subtract(&mut self, stats: &StatsReport) {
        self.http = self.http.saturating_sub(stats.http_bytes.into());
        self.seed = self.seed.saturating_sub(stats.seed_bytes.into());
        self.viewer = self.viewer.saturating_sub(stats.viewer_bytes.into());
        self.uploaded = self.uploaded.saturating_sub(stats.uploaded_bytes.into());
        self.neighbours = self.neighbours.saturating_sub(stats.neighbours.into());
    }

    pub(crate) fn report(&self) -> StatsReport {
        let bytes = |sum: u128| u64::try_from(sum).unwrap_or(u64::MAX);
        StatsReport {
            http_bytes: bytes(self.http),
            seed_bytes: bytes(self.seed),
            viewer_bytes: bytes(self.viewer),
            uploaded_bytes: bytes(self.uploaded),
            neighbours: u32::try_from(self.neighbours).unwrap_or(u32::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absurd_is_added_and_taken_off_again() {
        let absurd = StatsReport { http_bytes: u64::MAX, neighbours: u32::MAX, ..StatsReport::default() };
        let honest = StatsReport { http_bytes: 5, uploaded_bytes: 3, neighbours: 2, ..StatsReport::default() };
        let mut sums = Sums::default();
        sums.add(&honest);
        sums.add(&absurd);
        sums.add(&absurd);
        assert_eq!((sums.report().http_bytes, sums.report().neighbours), (u64::MAX, u32::MAX));
        sums.subtract(&absurd);
        sums.subtract(&absurd);
        assert_eq!(sums.report(), honest);
    }
}
