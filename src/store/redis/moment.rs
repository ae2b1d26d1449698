//! Activity as numbers: `last use`, `last check-in`, its `connections`, with spaces between; the last two are empty
//! if there was no check-in. Dates are nanoseconds since 1970; what lies before that counts as 1970.

use time::OffsetDateTime;

use crate::model::{Activity, CheckIn};

/// The three numbers.
pub(super) fn write(activity: &Activity) -> [String; 3] {
    let (at, connections) = match activity.check_in {
        Some(check_in) => (nanos(check_in.at), check_in.connections.to_string()),
        None => (String::new(), String::new()),
    };
    [nanos(activity.last_active_at), at, connections]
}

/// Reads what a script joined.
pub(super) fn read(text: &str) -> Option<Activity> {
    let mut parts = text.split(' ');
    let (active, at, connections) = (parts.next()?, parts.next()?, parts.next()?);
    let check_in = match (at, connections) {
        ("", "") => None,
        _ => Some(CheckIn { at: date(at)?, connections: connections.parse().ok()? }),
    };
    parts.next().is_none().then_some(Activity { last_active_at: date(active)?, check_in })
}

fn nanos(at: OffsetDateTime) -> String {
    at.unix_timestamp_nanos().max(0).to_string()
}

fn date(nanos: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(nanos.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(active in 0..i64::MAX, check_in in proptest::option::of((0..i64::MAX, any::<u64>()))) {
            let at = |nanos: i64| OffsetDateTime::from_unix_timestamp_nanos(nanos.into()).unwrap();
            let check_in = check_in.map(|(nanos, connections)| CheckIn { at: at(nanos), connections });
            let activity = Activity { last_active_at: at(active), check_in };
            prop_assert_eq!(read(&write(&activity).join(" ")), Some(activity));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9 x-]{0,40}") {
            let _ = read(&text);
        }
    }
}
