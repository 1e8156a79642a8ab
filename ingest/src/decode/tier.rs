//! Which instructions the structural index and the numbers may use; picked once, before any byte is read.

/// A rung of vector instructions that the decoder has code for.
///
/// Every tier gives the same answer; the tests run all that the machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SimdTier {
    /// Eight bytes at a time in ordinary registers, on any processor.
    Portable,
    /// AVX2 with carry-less multiplication and BMI (Haswell 2013, Zen 2017).
    Avx2,
    /// AVX-512 with VBMI2 byte compression (Ice Lake 2019, Zen 4 2022).
    Avx512,
}

impl SimdTier {
    /// The highest tier that this processor and operating system run.
    pub fn detect() -> Self {
        SimdTier::present().last().copied().unwrap_or(SimdTier::Portable)
    }

    /// All tiers that this processor and operating system run, lowest first.
    pub fn present() -> &'static [SimdTier] {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("pclmulqdq")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("popcnt");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vbmi2");
            match (avx2, avx512) {
                (_, true) => &[SimdTier::Portable, SimdTier::Avx2, SimdTier::Avx512],
                (true, false) => &[SimdTier::Portable, SimdTier::Avx2],
                (false, false) => &[SimdTier::Portable],
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        &[SimdTier::Portable]
    }
}
