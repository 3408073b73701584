//! Random numbers for tests: the same in every run.

/// A generator by a seed (xorshift).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number from `least` to `most`.
    pub fn size(&mut self, least: usize, most: usize) -> usize {
        least + (self.next() >> 16) as usize % (most - least + 1)
    }

    /// Numbers from −1 to 1.
    pub fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| (self.next() >> 40) as f32 / (1_u64 << 23) as f32 - 1.0).collect()
    }
}
