//! SplitMix64: a small generator for choices that must be fair and repeatable, not secret.

/// The generator. Never the source of a name or a secret: those come from the shell.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; zero where `bound` is zero.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        // The multiply-shift of Lemire: its bias at 64 bits is far below what a choice of peers could show.
        let wide = u128::from(self.next_u64()) * (bound as u128);
        (wide >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_none_reaches_the_bound() {
        let (mut a, mut b) = (Rng::new(7), Rng::new(7));
        for bound in 0..1000 {
            let drawn = a.below(bound);
            assert_eq!(drawn, b.below(bound));
            assert!(drawn < bound.max(1));
        }
    }
}
