//! How long a cluster takes to notice that a node is gone.

use ha_common::Nanos;

/// The options of the provider with which a cluster notices within two seconds that a node is gone, as they are written
/// into `wsrep_provider_options`. The defaults take six and a half. How long nodes wait for each other while they agree
/// on who is left stays as it is: who gives up on a node that is only slow leaves all of them without a quorum.
pub const RECOMMENDED: &str =
    "evs.keepalive_period=PT0.2S;evs.inactive_check_period=PT0.1S;evs.suspect_timeout=PT1S";

/// The value of an option among the provider's, as the server shows them.
pub(super) fn option<'a>(options: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = options.split(';').filter_map(|pair| pair.split_once('='));
    let found = pairs.find(|(known, _)| known.trim() == name);
    found.map(|(_, value)| value.trim())
}

/// A time as in ISO 8601, of hours at most.
pub(super) fn period(text: &str) -> Option<Nanos> {
    let mut rest = text.strip_prefix("PT")?;
    let mut sum = Nanos::ZERO;
    while !rest.is_empty() {
        let end = rest.find(|symbol: char| symbol.is_ascii_alphabetic())?;
        let (number, unit) = rest.split_at(end);
        let millis = match unit.get(..1)? {
            "H" => 3_600_000,
            "M" => 60_000,
            "S" => 1_000,
            _ => return None,
        };
        sum = sum.plus(times(number, millis)?);
        rest = unit.get(1..)?;
    }
    Some(sum)
}

/// A decimal number of so many milliseconds each.
fn times(number: &str, millis: u64) -> Option<Nanos> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let thousandths = match part.get(..3) {
        Some(digits) => digits.parse::<u64>().ok()?,
        None if part.is_empty() => 0,
        None => {
            let places = u32::try_from(part.len()).ok()?;
            part.parse::<u64>().ok()? * 10_u64.pow(3_u32.checked_sub(places)?)
        }
    };
    let all = whole.parse::<u64>().ok()?.checked_mul(1_000)?;
    let micros = all.checked_add(thousandths)?.checked_mul(millis)?;
    Some(Nanos::from_millis(micros / 1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_read() {
        for (text, millis) in [
            ("PT1S", 1_000),
            ("PT0.2S", 200),
            ("PT7.5S", 7_500),
            ("PT0.0625S", 62),
            ("PT1M30S", 90_000),
            ("PT24H", 86_400_000),
        ] {
            assert_eq!(period(text), Some(Nanos::from_millis(millis)), "{text}");
        }
        for wrong in ["", "5", "P1D", "PTxS", "PT5"] {
            assert_eq!(period(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_recommended_is_understood() {
        let suspect = option(RECOMMENDED, "evs.suspect_timeout").and_then(period);
        assert_eq!(suspect, Some(Nanos::from_secs(1)));
        assert_eq!(option(RECOMMENDED, "evs"), None);
        assert_eq!(
            option("a = 1; pc.ignore_sb = true; ", "pc.ignore_sb"),
            Some("true")
        );
    }
}
