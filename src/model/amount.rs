//! Amounts as people write them: memory (`512m`) and processors (`0.5`).

use super::{Error, Result};

/// The least memory the engine gives a container.
const LEAST_MEMORY: u64 = 6 << 20;
/// The most memory taken: what no host has.
const MOST_MEMORY: u64 = 1 << 50;

/// Reads bytes, or a number with `k`, `m` or `g` (powers of 1024; a trailing `b` or `ib` is allowed).
///
/// # Errors
/// `Invalid`, saying what is taken.
pub fn parse_memory(text: &str) -> Result<u64> {
    let refused = || Error::invalid(format!("{text:?} is not an amount of memory: write bytes or a unit (512m, 2g)"));
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = lower.split_at(digits);
    let number: u64 = number.parse().map_err(|_| refused())?;
    let shift = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(unit) {
        "" if unit != "ib" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        _ => return Err(refused()),
    };
    let bytes = number.checked_mul(1 << shift).ok_or_else(refused)?;
    if (LEAST_MEMORY..=MOST_MEMORY).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(Error::invalid(format!("{text:?} is out of range: a container needs at least 6m of memory")))
    }
}

/// Bytes for people to read: `1.5 GiB`.
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match UNITS.into_iter().find(|(_, shift)| bytes >> shift > 0) {
        Some((unit, shift)) => format!("{:.1} {unit}", bytes as f64 / (1_u64 << shift) as f64),
        None => format!("{bytes} B"),
    }
}

/// Reads a number of processors, fractions included.
///
/// # Errors
/// `Invalid` below 0.01, above 1024 or for no number.
pub fn parse_cpus(text: &str) -> Result<f64> {
    match text.trim().parse::<f64>() {
        Ok(cpus) if (0.01..=1024.0).contains(&cpus) => Ok(cpus),
        _ => Err(Error::invalid(format!("{text:?} is not a number of processors: write 0.01 to 1024 (0.5, 2)"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn memory_is_bytes_or_a_unit() {
        for (text, bytes) in
            [("536870912", 512 << 20), ("512m", 512 << 20), ("512MB", 512 << 20), ("2GiB", 2 << 30), ("8192k", 8 << 20)]
        {
            assert_eq!(parse_memory(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "m", "1", "5m", "-1m", "1.5g", "2t", "99999999999999999999", "18446744073709551615g", "9ib"] {
            assert!(parse_memory(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_are_written_in_the_largest_unit() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (u64::MAX, "17179869184.0 GiB")]
        {
            assert_eq!(format_bytes(bytes), text);
        }
    }

    #[test]
    fn processors_may_be_fractions() {
        assert!((parse_cpus("0.5").unwrap() - 0.5).abs() < f64::EPSILON);
        for text in ["", "0", "-1", "NaN", "inf", "1e9", "two"] {
            assert!(parse_cpus(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            let _ = parse_memory(&text);
            let _ = parse_cpus(&text);
        }
    }
}
