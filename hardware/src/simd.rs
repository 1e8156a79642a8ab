//! Which vector instructions the kernels may use. A tier is a set of extensions that came together.

use serde::Serialize;
use std::fmt;

/// What decoders are compiled for; the greater tier holds all of the lesser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    Portable,
    Avx2,
    Avx512,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tier::Portable => "portable",
            Tier::Avx2 => "avx2",
            Tier::Avx512 => "avx512",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Simd {
    pub tier: Tier,
    /// Of the extensions that decide, and of those that kernels may yet use: what is there.
    pub extensions: Vec<&'static str>,
}

/// Intel Haswell (2013), AMD Excavator (2015).
const AVX2: [&str; 6] = ["avx2", "bmi1", "bmi2", "lzcnt", "popcnt", "pclmulqdq"];
/// Intel Ice Lake (2019), AMD Zen 4 (2022): the first with byte compression (VBMI2).
const AVX512: [&str; 6] =
    ["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vbmi", "avx512vbmi2"];

impl Simd {
    pub fn of(extensions: Vec<&'static str>) -> Simd {
        let has = |needed: &[&str]| needed.iter().all(|name| extensions.contains(name));
        let tier = match (has(&AVX2), has(&AVX512)) {
            (true, true) => Tier::Avx512,
            (true, false) => Tier::Avx2,
            _ => Tier::Portable,
        };
        Simd { tier, extensions }
    }

    pub fn discover() -> Simd {
        Simd::of(extensions())
    }
}

#[cfg(target_arch = "x86_64")]
fn extensions() -> Vec<&'static str> {
    macro_rules! present {
        ($($name:tt),*) => {{
            let mut names = Vec::new();
            $(if std::arch::is_x86_feature_detected!($name) {
                names.push($name);
            })*
            names
        }};
    }
    present!(
        "sse4.2",
        "pclmulqdq",
        "popcnt",
        "lzcnt",
        "bmi1",
        "bmi2",
        "avx2",
        "fma",
        "avx512f",
        "avx512bw",
        "avx512dq",
        "avx512vl",
        "avx512ifma",
        "avx512vbmi",
        "avx512vbmi2",
        "vpclmulqdq"
    )
}

#[cfg(not(target_arch = "x86_64"))]
fn extensions() -> Vec<&'static str> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_needs_all_of_its_extensions() {
        let both: Vec<_> = AVX2.into_iter().chain(AVX512).collect();
        assert_eq!(Simd::of(both.clone()).tier, Tier::Avx512);
        assert_eq!(Simd::of(AVX2.to_vec()).tier, Tier::Avx2);
        assert_eq!(Simd::of(vec![]).tier, Tier::Portable);
        for (left_out, name) in both.iter().enumerate() {
            let mut rest = both.clone();
            rest.remove(left_out);
            let expected = if AVX2.contains(name) { Tier::Portable } else { Tier::Avx2 };
            assert_eq!(Simd::of(rest).tier, expected, "without {name}");
        }
    }
}
