use super::*;
use crate::cpu::oracle::{Digits, Random};
use crate::cpu::words::Words;

struct Column<const N: usize> {
    sum: ExactSum<N>,
    words: Words,
}

impl<const N: usize> Column<N> {
    fn new(groups: usize) -> Self {
        let mut words = Words::new(vec![0; N]);
        words.grow(groups);
        Column { sum: ExactSum::new(), words }
    }

    fn total(&self, group: u32) -> Total<N> {
        self.sum.total(self.words.field(0), group)
    }
}

#[test]
fn windows_that_overflow_go_on_in_the_map() {
    // The first value sets the base; the second lies at the upper end of the window.
    let mut column = Column::<2>::new(1);
    let top = 1.999 * 2f64.powi(16);
    column.sum.update(&mut column.words.field_mut(0), &[0], &[1.0]);
    let many = [vec![top; 10_000], vec![-top; 5_000]].concat();
    column.sum.update(&mut column.words.field_mut(0), &vec![0; many.len()], &many);
    assert!(column.sum.spilled.contains_key(&0), "the window must have overflowed");
    let mut digits = Digits::zero();
    digits.add(1.0, 1);
    digits.add(top, 5_000);
    assert!(digits.rounds_to(1, column.total(0).value()));
}

#[test]
fn squares_at_the_upper_end_of_the_window_are_carried_through_all_limbs() {
    for exponent in -20..=16 {
        let mut column = Column::<4>::new(1);
        column.sum.update(&mut column.words.field_mut(0), &[0], &[1.0]);
        let value = 1.999 * 2f64.powi(exponent);
        column.sum.update(&mut column.words.field_mut(0), &[0; 300], &[value; 300]);
        let mut digits = Digits::zero();
        digits.add(1.0, 1);
        digits.add_product(value, value, 300);
        assert!(digits.rounds_to(1, column.total(0).value()), "2^{exponent}");
        assert!(column.sum.spilled.is_empty(), "2^{exponent} lies in the window");
    }
}

/// Values around one exponent, then around another, …: the window must follow, and what it left
/// behind must come back when the sums fit again.
#[test]
fn a_window_that_follows_the_data_changes_no_sum() {
    for seed in 0..300 {
        let random = &mut Random(seed);
        let groups = 1 + random.below(5);
        let mut column = Column::<2>::new(groups);
        let mut totals = vec![Digits::zero(); groups];
        for _ in 0..6 {
            let scale = 2f64.powi(random.of(&[-1000, -300, -40, -17, 0, 3, 20, 60, 900]));
            let (mut numbers, mut values) = (vec![], vec![]);
            for _ in 0..random.below(40) {
                let value = (random.below(2000) as f64 - 1000.0) / 7.0 * scale;
                let group = random.below(groups);
                totals[group].add(value, 1);
                numbers.push(group as u32);
                values.push(value);
            }
            column.sum.update(&mut column.words.field_mut(0), &numbers, &values);
            for (group, digits) in totals.iter().enumerate() {
                let value = column.total(group as u32).value();
                assert!(digits.rounds_to(1, value), "seed {seed}");
            }
        }
    }
}

#[test]
fn a_window_that_moved_takes_back_what_was_spilled() {
    let mut column = Column::<2>::new(1);
    column.sum.update(&mut column.words.field_mut(0), &[0], &[1e-200]);
    column.sum.update(&mut column.words.field_mut(0), &[0; 8], &[3.0; 8]);
    assert!(column.sum.spilled.contains_key(&0), "1e-200 is outside the new window");
    column.sum.update(&mut column.words.field_mut(0), &[0], &[-1e-200]);
    column.sum.update(&mut column.words.field_mut(0), &[0; 8], &[1e40; 8]);
    column.sum.update(&mut column.words.field_mut(0), &[0; 8], &[-1e40; 8]);
    column.sum.update(&mut column.words.field_mut(0), &[0; 8], &[3.0; 8]);
    assert!(column.sum.spilled.is_empty(), "48 fits");
    assert_eq!(column.sum.spilled_limbs, 0);
    assert_eq!(column.total(0).value(), 48.0);
}

#[test]
fn bytes_of_spilled_sums_are_accounted_until_they_are_removed() {
    let mut column = Column::<2>::new(1000);
    let groups = (0..1000).collect::<Vec<_>>();
    column.sum.update(&mut column.words.field_mut(0), &groups, &[1.0; 1000]);
    let before = column.sum.bytes_held();
    for group in &groups {
        let base = column.sum.base;
        column.sum.update(&mut column.words.field_mut(0), &[*group], &[5e-324]);
        assert_eq!(column.sum.base, base, "a window of many groups does not move for one value");
    }
    assert!(column.sum.bytes_held() > before + 1000 * 100);
    groups.iter().for_each(|&group| column.sum.remove(group));
    assert_eq!(column.sum.spilled_limbs, 0);
}
