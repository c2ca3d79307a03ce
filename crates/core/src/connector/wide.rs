//! Whole numbers of up to 1 152 bits, enough for the exact value of any double over its unit.

use std::cmp::Ordering;

const LIMBS: usize = 36;

/// Little-endian limbs.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Wide([u32; LIMBS]);

impl Wide {
    /// `number · 2^two · 5^five`.
    pub(super) fn new(number: u64, two: u32, five: u32) -> Self {
        let mut wide = Self([0; LIMBS]);
        wide.0[0] = number as u32;
        wide.0[1] = (number >> 32) as u32;
        for _ in 0..five {
            wide.times(5);
        }
        wide.shift(two);
        wide
    }

    pub(super) fn times(&mut self, factor: u32) {
        let mut carry = 0;
        for limb in &mut self.0 {
            let product = u64::from(*limb) * u64::from(factor) + carry;
            *limb = product as u32;
            carry = product >> 32;
        }
    }

    fn shift(&mut self, bits: u32) {
        let (limbs, bits) = ((bits / 32) as usize, bits % 32);
        self.0.copy_within(..LIMBS - limbs, limbs);
        self.0[..limbs].fill(0);
        self.times(1 << bits);
    }

    pub(super) fn plus(&self, other: &Self) -> Self {
        let mut sum = self.clone();
        let mut carry = 0;
        for (limb, added) in sum.0.iter_mut().zip(other.0) {
            let total = u64::from(*limb) + u64::from(added) + carry;
            *limb = total as u32;
            carry = total >> 32;
        }
        sum
    }

    /// Takes the other away as often as it fits, at most nine times, and says how often.
    pub(super) fn take_multiples(&mut self, other: &Self) -> u8 {
        let mut count = 0;
        while *self >= *other {
            let mut borrow = 0;
            for (limb, taken) in self.0.iter_mut().zip(other.0) {
                let (rest, under) = limb.overflowing_sub(taken);
                let (rest, again) = rest.overflowing_sub(borrow);
                *limb = rest;
                borrow = u32::from(under | again);
            }
            count += 1;
        }
        count
    }
}

impl Ord for Wide {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.iter().rev().cmp(other.0.iter().rev())
    }
}

impl PartialOrd for Wide {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
