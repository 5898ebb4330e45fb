//! Xorshift: chance that repeats, for what must not fall together. Nothing secret comes from it.

/// A sequence of numbers (Marsaglia, 13-7-17).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// A sequence from `seed`.
    pub fn new(seed: u64) -> Chance {
        // From nothing only nothing follows.
        Chance(seed | 1)
    }

    fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// The next number, below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit
    }

    /// The next number, 0 to 1.
    pub fn share(&mut self) -> f32 {
        (self.draw() >> 32) as f32 / u32::MAX as f32
    }
}
