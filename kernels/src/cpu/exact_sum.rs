//! Exact sums of doubles and of their squares: a function of the set of values, not of their order.
//!
//! A double is an integer of 53 bits times a power of two, so a sum of doubles is an integer of
//! about 2,100 bits. What a column really holds spans few exponents, so each group has a window of
//! `64 * N` bits (`N` = 2 for sums, 4 for squares) above an exponent that is chosen from the data,
//! and a value is one shift and one checked addition. What falls outside (other exponents,
//! subnormals, overflow of the window) goes to a [`Big`] in a map, NaN and infinities are counted;
//! when too much falls outside, the window moves. None of that can be seen: a sum that is read or
//! written has one normal form, `(odd or zero) * 2^exponent`, and is rounded once.
//!
//! Window and map follow GPU.md, "Exact f64 sums"; the fixed point is Kulisch's long accumulator cut
//! short.

use hashbrown::HashMap;

use super::big::{Big, extension};
use super::total::{
    Specials, Total, bit_length, checked_add, normalize_small, shift_left, total_of,
};
use super::words::{Field, FieldRef};

/// Exponent of a double's last bit, less its biased exponent.
const BIAS: i32 = 1075;
/// Biased exponents that a window takes from its base on.
const WINDOW: u32 = 64;
/// Bases are multiples of this, so that tables of different cores mostly agree on one.
const BASE_STEP: i32 = 16;
/// From this many values outside on (and a quarter of the groups), moving the window costs less
/// than they did. Tests are too small for that, and move it all the time.
const OUTSIDE_MIN: usize = if cfg!(test) { 4 } else { 1024 };
/// Sums of one column, `N` = 2, or of its squares, `N` = 4. The windows lie among the state words.
pub(crate) struct ExactSum<const N: usize> {
    /// Biased exponent of the doubles whose last bit is bit 0 of the window; none before the first.
    base: Option<u32>,
    spilled: HashMap<u32, Spill, foldhash::fast::FixedState>,
    spilled_limbs: usize,
    outside: usize,
}

#[derive(Default)]
struct Spill {
    rest: Big,
    specials: Specials,
}

impl<const N: usize> ExactSum<N> {
    /// A square's exponent is twice its root's.
    const POWER: i32 = N as i32 / 2;
    const BITS: u32 = 64 * N as u32;

    pub fn new() -> Self {
        ExactSum { base: None, spilled: HashMap::default(), spilled_limbs: 0, outside: 0 }
    }

    pub fn bytes_held(&self) -> usize {
        let entry = size_of::<(u32, Spill)>() + 1;
        self.spilled.capacity() * 8 / 7 * entry + self.spilled_limbs
    }

    pub fn clear(&mut self) {
        self.spilled = HashMap::default();
        self.spilled_limbs = 0;
        self.outside = 0;
        // The base stays: the next values most likely resemble the last ones.
    }

    /// Forgets a group whose window its owner clears.
    pub fn remove(&mut self, group: u32) {
        if !self.spilled.is_empty()
            && let Some(spill) = self.spilled.remove(&group)
        {
            self.spilled_limbs -= spill.rest.bytes_held();
        }
    }

    /// Returns a group's sum in its normal form.
    pub fn total(&self, field: FieldRef<'_>, group: u32) -> Total<N> {
        let window = field.limbs::<N>(group);
        let spilled = if self.spilled.is_empty() { None } else { self.spilled.get(&group) };
        match spilled {
            None => {
                let (small, exponent) = normalize_small(window, self.exponent());
                Total { small, exponent, extra: None }
            }
            Some(spill) => {
                let mut sum = spill.rest.clone();
                sum.add(&window, self.exponent());
                total_of(&sum, spill.specials)
            }
        }
    }

    /// Adds a total to each group.
    pub fn combine(
        &mut self,
        field: &mut Field<'_>,
        groups: &[u32],
        totals: impl Iterator<Item = Total<N>> + Clone,
    ) {
        let base = match self.base {
            Some(base) => base,
            None => match Self::base_for_totals(totals.clone()) {
                Some(base) => *self.base.insert(base),
                None => 1,
            },
        };
        let exponent = Self::POWER * (base as i32 - BIAS);
        let mut windows = field.reborrow();
        for (&group, total) in groups.iter().zip(totals.clone()) {
            if let Some(extra) = &total.extra {
                self.spill(group, |spill| spill.specials.add(&extra.specials));
            }
            let shift = total.exponent.wrapping_sub(exponent) as u32;
            match total.fitting().and_then(|small| shift_left(small, shift)) {
                Some(term) => self.add(windows.limbs_mut(group), group, term),
                None if total.is_zero() => {}
                None => {
                    self.outside += 1;
                    self.spill(group, |spill| spill.rest.add(total.limbs(), total.exponent));
                }
            }
        }
        if self.must_move(field) {
            self.move_window(field, Self::base_for_totals(totals));
        }
    }

    /// Adds the sums of another table's groups `from` to its own groups `to`.
    pub fn absorb(
        &mut self,
        field: &mut Field<'_>,
        to: &[u32],
        (other, other_field): (&Self, FieldRef<'_>),
        from: &[u32],
    ) {
        self.base = self.base.or(other.base);
        if self.base != other.base || !other.spilled.is_empty() {
            let totals = from.iter().map(|&group| other.total(other_field, group));
            return self.combine(field, to, totals);
        }
        // Bits of one weight: nothing to normalize.
        let mut windows = field.reborrow();
        for (&to, &from) in to.iter().zip(from) {
            self.add(windows.limbs_mut(to), to, other_field.limbs(from));
        }
    }

    /// Weight of bit 0 of the windows.
    fn exponent(&self) -> i32 {
        self.base.map_or(0, |base| Self::POWER * (base as i32 - BIAS))
    }

    #[inline(always)]
    fn add(&mut self, window: &mut [u64; N], group: u32, term: [u64; N]) {
        match checked_add(*window, term) {
            Some(sum) => *window = sum,
            None => {
                let full = std::mem::replace(window, term);
                self.spill_window(group, full);
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn spill_window(&mut self, group: u32, window: [u64; N]) {
        let exponent = self.exponent();
        self.spill(group, |spill| spill.rest.add(&window, exponent));
    }

    /// A value that the window does not take, by its bits.
    #[cold]
    #[inline(never)]
    fn add_outside(&mut self, group: u32, bits: u64) {
        let Some((significand, exponent)) = parts(bits) else {
            // Of squares only finite values count: the sum beside them tells of the others.
            if N == 2 {
                self.spill(group, |spill| match bits {
                    POSITIVE => spill.specials.positive += 1,
                    NEGATIVE => spill.specials.negative += 1,
                    _ => spill.specials.nan += 1,
                });
            }
            return;
        };
        if significand == 0 {
            return;
        }
        self.outside += 1;
        if N == 2 {
            let signed = if bits >> 63 == 1 { -(significand as i64) } else { significand as i64 };
            self.spill(group, |spill| spill.rest.add(&[signed as u64], exponent));
        } else {
            let square = u128::from(significand) * u128::from(significand);
            let limbs = [square as u64, (square >> 64) as u64];
            self.spill(group, |spill| spill.rest.add(&limbs, 2 * exponent));
        }
    }

    fn spill(&mut self, group: u32, change: impl FnOnce(&mut Spill)) {
        let spill = self.spilled.entry(group).or_default();
        self.spilled_limbs -= spill.rest.bytes_held();
        change(spill);
        self.spilled_limbs += spill.rest.bytes_held();
    }

    fn must_move(&self, field: &Field<'_>) -> bool {
        self.outside >= OUTSIDE_MIN.max(field.groups() / 4)
    }

    /// Gives all windows another base, and takes back what now fits.
    fn move_window(&mut self, field: &mut Field<'_>, base: Option<u32>) {
        self.outside = 0;
        let Some(base) = base.filter(|&base| Some(base) != self.base) else { return };
        let old = self.exponent();
        let new = Self::POWER * (base as i32 - BIAS);
        self.base = Some(base);
        for group in 0..field.groups() as u32 {
            let window = *field.limbs_mut::<N>(group);
            if window == [0; N] {
                continue;
            }
            let (small, exponent) = normalize_small(window, old);
            let term = shift_left(small, exponent.wrapping_sub(new) as u32);
            *field.limbs_mut::<N>(group) = term.unwrap_or([0; N]);
            if term.is_none() {
                self.spill(group, |spill| spill.rest.add(&window, old));
            }
        }
        self.spilled.retain(|&group, spill| {
            let before = spill.rest.bytes_held();
            let window = field.limbs_mut::<N>(group);
            let mut sum = spill.rest.clone();
            sum.add(window, new);
            let total = total_of::<N>(&sum, spill.specials);
            let shift = total.exponent.wrapping_sub(new) as u32;
            if let Some(term) = total.fitting().and_then(|small| shift_left(small, shift)) {
                *window = term;
                spill.rest = Big::default();
            }
            let keep = spill.rest != Big::default() || spill.specials != Specials::default();
            self.spilled_limbs -= before - if keep { spill.rest.bytes_held() } else { 0 };
            keep
        });
    }

    /// A base for these values: the greatest lies at most 2^56 above it, at least 2^32 where the
    /// least allows, so that there is room for smaller and greater ones, and bits to count in.
    fn base_for_values(values: &[f64]) -> Option<u32> {
        let exponents = values.iter().map(|value| (value.to_bits() >> 52 & 0x7ff) as i32);
        let (least, greatest) = exponents
            .filter(|exponent| (1..0x7ff).contains(exponent))
            .fold((i32::MAX, i32::MIN), |(low, high), e| (low.min(e), high.max(e)));
        if greatest < least {
            return None;
        }
        let base = step_down(greatest - 32).min(step_down(least)).max(greatest - 56);
        Some(base.clamp(1, 0x7ff - WINDOW as i32) as u32)
    }

    /// A base that takes these totals: their last bits as far as their first ones allow.
    fn base_for_totals(totals: impl Iterator<Item = Total<N>>) -> Option<u32> {
        let (mut least, mut greatest) = (i32::MAX, i32::MIN);
        for total in totals.filter(|total| !total.is_zero()) {
            least = least.min(total.exponent);
            greatest = greatest.max(total.exponent + bit_length(total.limbs()));
        }
        if greatest < least {
            return None;
        }
        let lowest = greatest - (Self::BITS as i32 - 8);
        let base = step_down((least.max(lowest)).div_euclid(Self::POWER) + BIAS);
        Some(base.clamp(1, 0x7ff - WINDOW as i32) as u32)
    }
}

/// A sum that a device kept: a window of 64-bit limbs above the biased exponent `base`, and the
/// values that fell outside of it.
pub(crate) fn device_total<const N: usize>(window: &[u64], base: u32, outside: &[u64]) -> Total<N> {
    let exponent = ExactSum::<N>::POWER * (base as i32 - BIAS);
    if outside.is_empty() && window[N..].iter().all(|&limb| limb == extension(&window[..N])) {
        let (small, exponent) = normalize_small(*window.first_chunk().expect("N limbs"), exponent);
        return Total { small, exponent, extra: None };
    }
    let mut alone = ExactSum::<N>::new();
    outside.iter().for_each(|&bits| alone.add_outside(0, bits));
    let mut spill = alone.spilled.remove(&0).unwrap_or_default();
    spill.rest.add(window, exponent);
    total_of(&spill.rest, spill.specials)
}

impl ExactSum<2> {
    /// Adds a value to the sum of each group.
    pub fn update(&mut self, field: &mut Field<'_>, groups: &[u32], values: &[f64]) {
        let Some(base) = self.base_or_choose(values) else {
            return self.update_outside(groups, values);
        };
        let mut windows = field.reborrow();
        for (&group, &value) in groups.iter().zip(values) {
            let bits = value.to_bits();
            let shift = (bits >> 52 & 0x7ff) as u32;
            let shift = shift.wrapping_sub(base);
            if shift < WINDOW {
                let significand = bits & SIGNIFICAND | 1 << 52;
                let (low, high) = (significand << shift, significand >> 1 >> (63 - shift));
                let magnitude = i128::from(high) << 64 | i128::from(low);
                let sign = i128::from(bits as i64 >> 63);
                let term = ((magnitude ^ sign) - sign) as u128;
                self.add(windows.limbs_mut(group), group, [term as u64, (term >> 64) as u64]);
            } else if bits << 1 != 0 {
                self.add_outside(group, bits);
            }
        }
        if self.must_move(field) {
            self.move_window(field, Self::base_for_values(values));
        }
    }
}

impl ExactSum<4> {
    /// Adds the exact square of a value to the sum of each group.
    pub fn update(&mut self, field: &mut Field<'_>, groups: &[u32], values: &[f64]) {
        let Some(base) = self.base_or_choose(values) else {
            return self.update_outside(groups, values);
        };
        let mut windows = field.reborrow();
        for (&group, &value) in groups.iter().zip(values) {
            let bits = value.to_bits();
            let shift = (bits >> 52 & 0x7ff) as u32;
            let shift = shift.wrapping_sub(base);
            if shift < WINDOW {
                let significand = u128::from(bits & SIGNIFICAND | 1 << 52);
                let square = significand * significand;
                // 106 bits, shifted by up to 126: whole limbs first, then bits.
                let (limbs, bits) = (shift / 32, 2 * shift % 64);
                let low = square << bits;
                let high = if bits == 0 { 0 } else { (square >> (128 - bits)) as u64 };
                let (low, middle) = (low as u64, (low >> 64) as u64);
                let term = if limbs == 0 { [low, middle, high, 0] } else { [0, low, middle, high] };
                self.add(windows.limbs_mut(group), group, term);
            } else if bits << 1 != 0 {
                self.add_outside(group, bits);
            }
        }
        if self.must_move(field) {
            self.move_window(field, Self::base_for_values(values));
        }
    }
}

impl<const N: usize> ExactSum<N> {
    fn base_or_choose(&mut self, values: &[f64]) -> Option<u32> {
        if self.base.is_none() {
            self.base = Self::base_for_values(values);
        }
        self.base
    }

    /// Values among which none tells where a window should be.
    fn update_outside(&mut self, groups: &[u32], values: &[f64]) {
        for (&group, &value) in groups.iter().zip(values) {
            self.add_outside(group, value.to_bits());
        }
    }
}

const SIGNIFICAND: u64 = (1 << 52) - 1;
const POSITIVE: u64 = f64::INFINITY.to_bits();
const NEGATIVE: u64 = f64::NEG_INFINITY.to_bits();

/// Magnitude and exponent of a finite double.
fn parts(bits: u64) -> Option<(u64, i32)> {
    match (bits >> 52 & 0x7ff) as i32 {
        0 => Some((bits & SIGNIFICAND, 1 - BIAS)),
        0x7ff => None,
        biased => Some((bits & SIGNIFICAND | 1 << 52, biased - BIAS)),
    }
}

fn step_down(base: i32) -> i32 {
    base.div_euclid(BASE_STEP) * BASE_STEP
}

#[cfg(test)]
#[path = "exact_sum_tests.rs"]
mod tests;
