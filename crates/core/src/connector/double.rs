//! Doubles as `Double.toString` of Java 17 and older writes them, which is not always with the fewest
//! digits: 2e23 is `1.9999999999999998E23`.
//!
//! The digits are generated one by one from the exact value until what is left is below half the
//! distance to a neighbour, as by Steele and White; what Java does differently is marked.

use super::wide::Wide;

/// Appends the double.
pub(super) fn write(double: f64, out: &mut Vec<u8>) {
    if !double.is_finite() {
        return out.extend_from_slice(crate::ejson::non_finite_double(double));
    }
    if double.is_sign_negative() {
        out.push(b'-');
    }
    if double == 0.0 {
        return out.extend_from_slice(b"0.0");
    }
    digits(double).write(out);
}

/// `0.d1d2d3… · 10^point`.
struct Digits {
    digits: [u8; 24],
    count: usize,
    point: i32,
}

impl Digits {
    fn push(&mut self, digit: u8) {
        self.digits[self.count] = b'0' + digit;
        self.count += 1;
    }

    /// One more in the last place. Zeros that this makes stay.
    fn round_up(&mut self) {
        let digits = &mut self.digits[..self.count];
        let nines = digits.iter().rev().take_while(|digit| **digit == b'9').count();
        let from = digits.len() - nines;
        digits[from..].fill(b'0');
        if from > 0 {
            digits[from - 1] += 1;
        } else {
            digits[0] = b'1';
            self.point += 1;
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let digits = &self.digits[..self.count];
        match self.point {
            1..8 => {
                // In the range above.
                let whole = self.point as usize;
                let (before, after) = digits.split_at(whole.min(digits.len()));
                out.extend_from_slice(before);
                out.extend(std::iter::repeat_n(b'0', whole - before.len()));
                out.push(b'.');
                out.extend_from_slice(if after.is_empty() { b"0" } else { after });
            }
            -2..=0 => {
                out.extend_from_slice(b"0.");
                out.extend(std::iter::repeat_n(b'0', self.point.unsigned_abs() as usize));
                out.extend_from_slice(digits);
            }
            _ => {
                out.extend_from_slice(&[digits[0], b'.']);
                out.extend_from_slice(if digits.len() > 1 { &digits[1..] } else { b"0" });
                out.push(b'E');
                out.extend_from_slice(itoa::Buffer::new().format(self.point - 1).as_bytes());
            }
        }
    }
}

fn digits(double: f64) -> Digits {
    let bits = double.to_bits();
    let fraction = bits & ((1 << 52) - 1);
    let (mantissa, exponent, significant) = match (bits >> 52 & 0x7ff) as i32 {
        0 => {
            // Moved up, so that the highest bit is where it is in other numbers.
            let shift = fraction.leading_zeros() as i32 - 11;
            (fraction << shift, 1 - shift - 1023, 53 - shift)
        }
        biased => (fraction | 1 << 52, biased - 1023, 53),
    };
    let width = 53 - mantissa.trailing_zeros() as i32;
    // Bits behind the point.
    let tiny = (width - exponent - 1).max(0);
    if tiny == 0 && exponent <= 62 {
        return whole(mantissa, exponent, significant);
    }
    Fraction::new(mantissa, exponent, significant, width, tiny).digits()
}

/// A whole number below 2^63. Of those beyond 2^53 Java leaves out digits that say nothing.
fn whole(mantissa: u64, exponent: i32, significant: i32) -> Digits {
    let mut number =
        if exponent >= 52 { mantissa << (exponent - 52) } else { mantissa >> (52 - exponent) };
    let mut dropped = 0;
    let spare = exponent - significant - 1;
    if spare > 1 {
        // At most 2^8.
        let zeros = 1u64.checked_shl(spare as u32).unwrap_or(1).ilog10();
        let power = 10u64.pow(zeros);
        if zeros > 0 {
            let rest = number % power;
            number = number / power + u64::from(rest >= power >> 1);
            dropped = zeros as i32;
        }
    }
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(number);
    let mut digits = Digits { digits: [0; 24], count: 0, point: text.len() as i32 + dropped };
    for digit in text.trim_end_matches('0').bytes() {
        digits.push(digit - b'0');
    }
    digits
}

/// `b/s` is the number over `10^decimal`, and `m/s` half the distance to its neighbours.
struct Fraction {
    mantissa: u64,
    width: i32,
    decimal: i32,
    /// Powers of two and five in `b`, `s` and `m`.
    b: (i32, i32),
    s: (i32, i32),
    m: (i32, i32),
}

impl Fraction {
    fn new(mantissa: u64, exponent: i32, significant: i32, width: i32, tiny: i32) -> Self {
        let decimal = estimate(mantissa, exponent);
        let b5 = (-decimal).max(0);
        let s5 = decimal.max(0);
        let mut b2 = b5 + tiny + exponent;
        let mut s2 = s5 + tiny;
        let mut m2 = b2 - significant;
        b2 -= width - 1;
        let common = b2.min(s2);
        b2 -= common;
        s2 -= common;
        m2 -= common;
        // Java's: below a power of two the neighbour is only half as far away, and this half is
        // taken for both sides.
        if width == 1 {
            m2 -= 1;
        }
        if m2 < 0 {
            b2 -= m2;
            s2 -= m2;
            m2 = 0;
        }
        let mantissa = mantissa >> mantissa.trailing_zeros();
        Self { mantissa, width, decimal, b: (b2, b5), s: (s2, s5), m: (m2, b5) }
    }

    fn digits(self) -> Digits {
        let b_bits = self.width + self.b.0 + power_bits(self.b.1);
        let s_bits = self.s.0 + 1 + power_bits(self.s.1 + 1);
        if b_bits < 64 && s_bits < 64 { self.in_longs() } else { self.in_wide() }
    }

    /// Java's arithmetic in `long`, which may run over, with what that does to the digits.
    fn in_longs(self) -> Digits {
        let product = |number: u64, (two, five): (i32, i32)| -> i64 {
            (number.wrapping_mul(5u64.wrapping_pow(five as u32)) << two) as i64
        };
        let mut b = product(self.mantissa, self.b);
        let s = product(1, self.s);
        let mut m = product(1, self.m);
        let tens = s.wrapping_mul(10);
        generate(self.decimal, || {
            let digit = b / s;
            b = (b % s).wrapping_mul(10);
            m = m.wrapping_mul(10);
            // A sum that ran over is surely larger.
            let ends = if m > 0 { (b < m, b.wrapping_add(m) > tens) } else { (true, true) };
            Step {
                digit: digit as u8,
                low: ends.0,
                high: ends.1,
                twice: (b << 1).wrapping_sub(tens).cmp(&0),
            }
        })
    }

    fn in_wide(self) -> Digits {
        let product = |number, (two, five): (i32, i32)| Wide::new(number, two as u32, five as u32);
        let mut b = product(self.mantissa, self.b);
        let s = product(1, self.s);
        let mut m = product(1, self.m);
        let tens = product(10, self.s);
        generate(self.decimal, || {
            let digit = b.take_multiples(&s);
            b.times(10);
            m.times(10);
            let low = b < m;
            let high = b.plus(&m) >= tens;
            Step { digit, low, high, twice: b.plus(&b).cmp(&tens) }
        })
    }
}

/// A digit, whether what is left is nothing to the number or to the next digit, and whether it is
/// nearer to the next.
struct Step {
    digit: u8,
    low: bool,
    high: bool,
    twice: std::cmp::Ordering,
}

fn generate(decimal: i32, mut next: impl FnMut() -> Step) -> Digits {
    let mut digits = Digits { digits: [0; 24], count: 0, point: decimal + 1 };
    let mut step = next();
    if step.digit == 0 && !step.high {
        digits.point -= 1;
    } else {
        digits.push(step.digit);
    }
    // Java's: with an exponent there are always two digits.
    if !(-2..=8).contains(&digits.point) {
        (step.low, step.high) = (false, false);
    }
    while !step.low && !step.high {
        step = next();
        digits.push(step.digit);
    }
    let odd = digits.digits[digits.count - 1] & 1 == 1;
    let up = match (step.low, step.high) {
        (true, true) => step.twice.is_gt() || step.twice.is_eq() && odd,
        (_, high) => high,
    };
    if up {
        digits.round_up();
    }
    digits
}

/// The decimal exponent, or one more. Java's approximation, to the last bit.
#[expect(clippy::approx_constant, reason = "the better constant would round otherwise than Java")]
fn estimate(mantissa: u64, exponent: i32) -> i32 {
    let unit = f64::from_bits(1023 << 52 | mantissa & ((1 << 52) - 1));
    let log = (unit - 1.5) * 0.289529654 + 0.176091259 + f64::from(exponent) * 0.301029995663981;
    log.floor() as i32
}

/// The bits of a power of five, as Java counts them.
fn power_bits(power: i32) -> i32 {
    if power == 0 {
        return 0;
    }
    match 5u64.checked_pow(power as u32) {
        Some(five) if power < 27 => 64 - five.leading_zeros() as i32,
        _ => power * 3,
    }
}
