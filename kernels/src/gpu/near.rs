//! When a workgroup folds its rows into states of its own first (`near.wgsl`), and into how many.
//!
//! Invariant: pure, and about speed alone: rows of groups that have no place there are folded into the
//! table directly.

/// Units of 64 bits that a workgroup has room for: WebGPU's 16 KiB but for a counter.
pub(super) const UNITS: usize = 2_040;
/// Rows of a workgroup, as in the shader.
pub(super) const ROWS: u32 = 1_024;
/// Where so many groups have no room, their states are a shader that takes drivers long to compile: with
/// 200 units software needs a minute, more than linear in them.
const GROUPS_MIN: usize = 32;
/// A workgroup has to meet each group so many times: once is what the table itself costs.
const ROWS_OF_GROUP: u32 = 4;
/// States that invocations of a workgroup meet at: fewer of them, and they wait for each other.
const PLACES: u32 = 64;
const COPIES_MAX: u32 = 16;

/// Groups with states in a workgroup, and how many copies of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Near {
    pub groups: u32,
    pub copies: u32,
}

/// Groups of so many units that a workgroup has room for; 0 where it does not pay.
pub(super) fn groups_max(units: usize) -> u32 {
    match UNITS / units.max(1) {
        groups if groups < GROUPS_MIN => 0,
        groups => groups as u32,
    }
}

/// What a workgroup keeps where so many groups were seen, of them up to `groups_max` with room; none
/// where its rows go to the table.
pub(super) fn choose(seen: u32, groups_max: u32) -> Option<Near> {
    if seen == 0 || seen > groups_max || seen > ROWS / ROWS_OF_GROUP {
        return None;
    }
    // New ones come on the way.
    let groups = (seen + seen / 4 + 1).min(groups_max);
    let copies = (PLACES / groups).clamp(1, COPIES_MAX).min(groups_max / groups);
    Some(Near { groups, copies })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_groups_are_near_several_times_and_many_not_at_all() {
        let check = |seen, max, expected: Option<(u32, u32)>| {
            let found = choose(seen, max).map(|Near { groups, copies }| (groups, copies));
            assert_eq!(found, expected, "{seen} of {max}");
        };
        check(0, 100, None);
        check(1, 100, Some((2, 16)));
        check(1, 8, Some((2, 4)));
        check(8, 8, Some((8, 1)));
        check(9, 8, None);
        check(30, 100, Some((38, 1)));
        check(100, 100, Some((100, 1)));
        check(256, 2_040, Some((321, 1)));
        check(257, 2_040, None);
        check(1, 0, None);
    }

    #[test]
    fn states_and_copies_stay_within_a_workgroups_memory() {
        for units in 1..3_000 {
            let max = groups_max(units);
            assert!(max == 0 || max >= GROUPS_MIN as u32);
            for seen in 0..=ROWS {
                let Some(Near { groups, copies }) = choose(seen, max) else { continue };
                assert!(groups >= seen.min(max) && copies >= 1);
                assert!((groups * copies) as usize * units <= UNITS, "{units} {seen}");
            }
        }
    }
}
