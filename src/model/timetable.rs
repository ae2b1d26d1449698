//! Timetables: when nothing sleeps. Cron's five fields say when such a time begins, by the clocks of a zone; how long it
//! lasts is elapsed time.

use std::{fmt, sync::Arc, time::Duration};

use chrono::{DateTime, Datelike, Offset, TimeZone};
use chrono_tz::Tz;
use croner::Cron;
use time::OffsetDateTime;

use super::{Error, Result, format_duration, parse_duration};

/// The longest text, as it is given and as it is written.
const LONGEST_TEXT: usize = 200;
/// What to do about a longer one.
const PART_IT: &str = "make two of it";
/// What stands between several in one text.
const BETWEEN: char = ';';
/// The most of them: each is looked at whenever a container is judged.
const MOST: usize = 16;
/// The longest that it lasts at a time: what is further back than this need not be looked at.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);
const DAY: i64 = 86_400;
/// The furthest that clocks are put forward at once: over the date line.
const LONGEST_JUMP: i64 = DAY;

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A time that comes again and again: `0 9 * * mon-fri for 8h in Europe/Berlin`.
#[derive(Clone)]
pub struct Timetable {
    /// The five fields, in small letters, one space between them.
    fields: String,
    /// On which days it begins. Shared, because it is several kilobytes long.
    days: Arc<Cron>,
    /// At which hours and minutes of such a day, a bit each.
    hours: u32,
    minutes: u64,
    span: Duration,
    zone: Tz,
}

impl Timetable {
    /// Reads one.
    ///
    /// # Errors
    /// `Invalid`, saying what is taken.
    pub fn parse(text: &str) -> Result<Self> {
        let refused = |why: &str| {
            let shown: String = text.trim().chars().take(64).collect();
            Error::invalid(format!(
                "{shown:?} is not a timetable: {why}; write cron's five fields (minute, hour, day, month, weekday), a \
                 duration, and a time zone if it is not UTC: 0 9 * * mon-fri for 8h in Europe/Berlin"
            ))
        };
        if text.trim().len() > LONGEST_TEXT {
            return Err(refused(&format!("it has more than {LONGEST_TEXT} bytes, {PART_IT}")));
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        let Some(split) = words.iter().position(|word| *word == "for") else {
            return Err(refused("it does not say for how long"));
        };
        let (fields, rest) = (&words[..split], &words[split + 1..]);
        match fields.len() {
            5 => {}
            6 => return Err(refused("six fields are one too many, seconds are not taken")),
            count => return Err(refused(&format!("it has {count} fields"))),
        }
        let fields: Vec<String> = fields.iter().map(|field| field.to_ascii_lowercase()).collect();
        if let Some(odd) = fields.iter().enumerate().find(|(place, field)| !is_field(*place, field)) {
            return Err(refused(&format!("{:?} cannot be its {}", odd.1, PLACES[odd.0])));
        }
        let fields = fields.join(" ");
        let days: Cron = fields.parse().map_err(|_| refused("a number or range is out of bounds"))?;
        let (span, zone) = match rest {
            [span] => (span, Tz::UTC),
            [span, "in", zone] => {
                let unknown = |_| refused(&format!("there is no time zone {zone:?}"));
                (span, zone.parse().map_err(unknown)?)
            }
            _ => return Err(refused("after \"for\" comes a duration, then perhaps \"in\" and a time zone")),
        };
        let span = parse_duration(span).map_err(|error| refused(error.message()))?;
        if span.is_zero() || span > LONGEST {
            return Err(refused("it lasts from 1 second to 7 days"));
        }
        let bits = |values: Vec<u16>| values.into_iter().fold(0_u64, |bits, value| bits | 1 << value);
        let hours = bits(days.pattern.hours.get_set_values(SET)) as u32;
        let minutes = bits(days.pattern.minutes.get_set_values(SET));
        let timetable = Self { fields, days: Arc::new(days), hours, minutes, span, zone };
        // What is written must be read again, and 90061 seconds are longer in words.
        if timetable.to_string().len() > LONGEST_TEXT {
            let span = format_duration(span);
            let why = format!("with \"for {span}\", as it is kept, it has more than {LONGEST_TEXT} bytes, {PART_IT}");
            return Err(refused(&why));
        }
        Ok(timetable)
    }

    /// Reads several, with semicolons between them; nothing at all is none.
    ///
    /// # Errors
    /// As for [`Timetable::parse`].
    pub fn parse_all(text: &str) -> Result<Vec<Self>> {
        let parts: Vec<_> = text.split(BETWEEN).filter(|part| !part.trim().is_empty()).collect();
        if parts.len() > MOST {
            return Err(Error::invalid(format!("at most {MOST} timetables")));
        }
        parts.into_iter().map(Self::parse).collect()
    }

    /// Until when it lasts, if it does at `now`: of the times that `now` is in, the last one ends then. Where the next one
    /// begins as this one ends, it goes on without a gap.
    ///
    /// One that begins while the clocks are put forward begins as that is done, one that begins in an hour that comes
    /// twice begins twice.
    pub fn lasts_until(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let span = i64::try_from(self.span.as_secs()).ok()?;
        let begin = self.last_begin(now.unix_timestamp(), now.unix_timestamp().checked_sub(span)?)?;
        OffsetDateTime::from_unix_timestamp(begin.checked_add(span)?).ok()
    }

    /// When it began last, up to `until` and after `after`, in seconds of Unix.
    fn last_begin(&self, mut until: i64, after: i64) -> Option<i64> {
        while until > after {
            let offset = self.offset(until)?;
            // As if the clocks had not been changed since.
            let local = self.last_match(until + offset, after + offset - LONGEST_JUMP)?;
            if self.offset(local - offset)? == offset {
                return Some(local - offset).filter(|begin| *begin > after);
            }
            // They have been: the first second after that, and what they showed before.
            let (mut before, mut since) = (local - offset, until);
            while since - before > 1 {
                let middle = before + (since - before) / 2;
                if self.offset(middle)? == offset { since = middle } else { before = middle }
            }
            let other = self.offset(before)?;
            // Put forward over the match: it begins now.
            if local >= since + other {
                return (since > after).then_some(since);
            }
            until = before;
        }
        None
    }

    /// The last match, up to `until` and after `after`, in seconds as clocks show them.
    fn last_match(&self, until: i64, after: i64) -> Option<i64> {
        let mut day = until.div_euclid(DAY);
        let mut minute = until.rem_euclid(DAY) / 60;
        while (day + 1) * DAY > after {
            if let Some(minute) = self.last_minute(minute)
                && self.is_day(day)?
            {
                let found = day * DAY + minute * 60;
                return (found > after).then_some(found);
            }
            (day, minute) = (day - 1, DAY / 60 - 1);
        }
        None
    }

    /// The last minute of a day at which it begins, up to this one.
    fn last_minute(&self, minute: i64) -> Option<i64> {
        let highest = |bits: u64| bits.checked_ilog2().map(i64::from);
        let up_to = |place: i64| u64::MAX >> (63 - place);
        let (hour, minute) = (minute / 60, minute % 60);
        let hours = u64::from(self.hours);
        if hours & 1 << hour != 0
            && let Some(minute) = highest(self.minutes & up_to(minute))
        {
            return Some(hour * 60 + minute);
        }
        Some(highest(hours & (up_to(hour) >> 1))? * 60 + highest(self.minutes)?)
    }

    /// Whether it begins on this day, counted as Unix does.
    fn is_day(&self, day: i64) -> Option<bool> {
        let date = DateTime::from_timestamp(day * DAY, 0)?.date_naive();
        let (pattern, month) = (&self.days.pattern, date.month());
        Some(pattern.month_match(month).ok()? && pattern.day_match(date.year(), month, date.day()).ok()?)
    }

    /// How far the zone's clocks are ahead of UTC.
    fn offset(&self, at: i64) -> Option<i64> {
        let at = DateTime::from_timestamp(at, 0)?.naive_utc();
        Some(self.zone.offset_from_utc_datetime(&at).fix().local_minus_utc().into())
    }
}

/// What the fields are called.
const PLACES: [&str; 5] = ["minute", "hour", "day", "month", "weekday"];
/// How croner marks what is in a field.
const SET: u8 = 1;

/// Whether each part of a field is a number or a name that can stand in this place. The library takes a name wherever it
/// finds one, and does not bear long numbers.
fn is_field(place: usize, field: &str) -> bool {
    let number = |text: &str| matches!(text.len(), 1 | 2) && text.bytes().all(|b| b.is_ascii_digit());
    field.split([',', '-', '/', '#']).all(|part| match place {
        _ if part == "*" || number(part) => true,
        2 => part == "l" || part.strip_suffix('w').is_some_and(number),
        3 => MONTHS.contains(&part),
        4 => WEEKDAYS.contains(&part) || part.strip_suffix('l').is_some_and(number),
        _ => false,
    })
}

impl PartialEq for Timetable {
    fn eq(&self, other: &Self) -> bool {
        // The rest follows from the fields.
        (&self.fields, self.span, self.zone) == (&other.fields, other.span, other.zone)
    }
}

impl Eq for Timetable {}

impl fmt::Debug for Timetable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl fmt::Display for Timetable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.fields, format_duration(self.span))?;
        match self.zone {
            Tz::UTC => Ok(()),
            zone => write!(f, " in {}", zone.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::format_description::well_known::Rfc3339;

    use super::*;

    fn date(text: &str) -> OffsetDateTime {
        OffsetDateTime::parse(text, &Rfc3339).unwrap()
    }

    /// One of so many bytes that lasts so long.
    fn minutes(bytes: usize, span: &str) -> String {
        let rest = format!(" 9 * * * for {span}");
        let list = "0,".repeat(bytes);
        let mut list = list[..bytes - rest.len()].to_owned();
        if list.ends_with(',') {
            list.replace_range(list.len() - 2.., "10");
        }
        list + &rest
    }

    #[test]
    fn one_is_read_and_written_alike() {
        for (text, written) in [
            ("0 9 * * mon-fri for 8h in Europe/Berlin", "0 9 * * mon-fri for 8h in Europe/Berlin"),
            ("  0  9 * *\tMON-FRI for 480m in UTC ", "0 9 * * mon-fri for 8h"),
            (
                "*/5 0,12 1-7,L Jan,jul 5L,sun#2 for 90 in Etc/UTC",
                "*/5 0,12 1-7,l jan,jul 5l,sun#2 for 1m30s in Etc/UTC",
            ),
            ("0 0 15w * * for 7d", "0 0 15w * * for 7d"),
        ] {
            let timetable = Timetable::parse(text).unwrap();
            assert_eq!(timetable.to_string(), written, "{text}");
            assert_eq!(Timetable::parse(written).unwrap(), timetable, "{text}");
        }
    }

    #[test]
    fn space_around_one_is_no_part_of_it() {
        let text = format!("\t{}\n", minutes(200, "1h"));
        assert_eq!(Timetable::parse(&text).unwrap().to_string(), text.trim());
    }

    #[test]
    fn what_is_no_timetable_is_refused_with_an_example() {
        for (text, why) in [
            ("", "for how long"),
            ("0 9 * * *", "for how long"),
            ("0 0 9 * * * for 8h", "seconds"),
            ("0 9 * * for 8h", "4 fields"),
            ("@daily for 8h", "1 fields"),
            ("0 mon * * * for 8h", "hour"),
            ("0 9 * * monfri for 8h", "weekday"),
            ("0 9 * * 1mon for 8h", "weekday"),
            ("0 9 ? * * for 8h", "day"),
            ("0 9 1,,2 * * for 8h", "day"),
            ("5/65535 9 * * * for 8h", "minute"),
            ("*/0 9 * * * for 8h", "out of bounds"),
            ("60 9 * * * for 8h", "out of bounds"),
            ("0 9 * * fri-mon for 8h", "out of bounds"),
            ("0 9 * * * for soon", "duration"),
            ("0 9 * * * for 0", "7 days"),
            ("0 9 * * * for 7d1s", "7 days"),
            ("0 9 * * * for 8h in Berlin", "no time zone \"Berlin\""),
            ("0 9 * * * for 8h at Europe/Berlin", "time zone"),
            ("0 9 * * * for", "duration"),
            (&minutes(201, "1h"), "200 bytes"),
            (&minutes(199, "90061"), "for 1d1h1m1s"),
        ] {
            let error = Timetable::parse(text).expect_err(text);
            assert!(error.message().contains(why), "{text}: {}", error.message());
            assert!(error.message().contains("0 9 * * mon-fri for 8h in Europe/Berlin"), "{}", error.message());
        }
    }

    #[test]
    fn the_table_of_times() {
        for (text, now, until) in [
            // It begins with its first second and is over with its last.
            ("0 9 * * * for 8h", "2026-06-01T08:59:59Z", None),
            ("0 9 * * * for 8h", "2026-06-01T09:00:00Z", Some("2026-06-01T17:00:00Z")),
            ("0 9 * * * for 8h", "2026-06-01T16:59:59.5Z", Some("2026-06-01T17:00:00Z")),
            ("0 9 * * * for 8h", "2026-06-01T17:00:00Z", None),
            // By the clocks of its zone, whatever the weekday is elsewhere.
            ("0 9 * * mon-fri for 8h in Europe/Berlin", "2026-06-01T07:00:00Z", Some("2026-06-01T15:00:00Z")),
            ("0 9 * * mon-fri for 8h in Europe/Berlin", "2026-01-05T07:59:00Z", None),
            ("0 9 * * mon-fri for 8h in Europe/Berlin", "2026-06-06T09:00:00Z", None),
            ("0 1 * * mon for 1h in Asia/Tokyo", "2026-06-07T16:30:00Z", Some("2026-06-07T17:00:00Z")),
            // Over midnight, over the end of a month, a year, and at its longest.
            ("0 22 * * fri for 12h", "2026-06-06T08:00:00Z", Some("2026-06-06T10:00:00Z")),
            ("0 12 31 * * for 2d", "2026-02-01T12:00:00Z", Some("2026-02-02T12:00:00Z")),
            ("0 12 31 * * for 2d", "2026-07-01T12:00:00Z", None),
            ("0 12 l * * for 2d", "2028-03-01T11:00:00Z", Some("2028-03-02T12:00:00Z")),
            ("0 0 l 2 * for 1h", "2027-02-28T00:30:00Z", Some("2027-02-28T01:00:00Z")),
            ("30 23 31 12 * for 1h", "2027-01-01T00:15:00Z", Some("2027-01-01T00:30:00Z")),
            ("0 0 * * mon for 7d", "2026-06-07T23:59:59Z", Some("2026-06-08T00:00:00Z")),
            ("0 8 1 * * for 7d", "2026-06-08T07:59:59Z", Some("2026-06-08T08:00:00Z")),
            // Of those that overlap the last one counts; where they adjoin there is no gap.
            ("0 9,11 * * * for 4h", "2026-06-01T10:59:00Z", Some("2026-06-01T13:00:00Z")),
            ("0 9,11 * * * for 4h", "2026-06-01T12:00:00Z", Some("2026-06-01T15:00:00Z")),
            ("0 * * * * for 1h", "2026-06-01T11:00:00Z", Some("2026-06-01T12:00:00Z")),
            // Day and weekday, both given: either will do, as in every cron.
            ("0 9 13 * fri for 1h", "2026-06-05T09:00:00Z", Some("2026-06-05T10:00:00Z")),
            ("0 9 13 * fri for 1h", "2026-06-13T09:00:00Z", Some("2026-06-13T10:00:00Z")),
            // Never.
            ("30 2 30 2 * for 7d", "2026-03-02T02:30:00Z", None),
        ] {
            assert_eq!(Timetable::parse(text).unwrap().lasts_until(date(now)), until.map(date), "{text} at {now}");
        }
    }

    #[test]
    fn clocks_that_are_changed() {
        // Berlin, 29 March 2026: at 01:00 UTC two becomes three. 25 October 2026: at 01:00 UTC three becomes two.
        for (text, now, until) in [
            // Half past two is not there: it begins as the clocks are put forward.
            ("30 2 * * * for 1h", "2026-03-29T00:59:59Z", None),
            ("30 2 * * * for 1h", "2026-03-29T01:00:00Z", Some("2026-03-29T02:00:00Z")),
            ("30 2 * * * for 1h", "2026-03-29T01:59:59Z", Some("2026-03-29T02:00:00Z")),
            ("30 2 * * * for 1h", "2026-03-29T02:00:00Z", None),
            ("0 3 * * * for 1h", "2026-03-29T01:00:00Z", Some("2026-03-29T02:00:00Z")),
            ("30 1 * * * for 1h", "2026-03-29T01:15:00Z", Some("2026-03-29T01:30:00Z")),
            // Eight hours are eight hours.
            ("0 22 * * * for 8h", "2026-03-29T04:59:59Z", Some("2026-03-29T05:00:00Z")),
            ("0 22 * * * for 8h", "2026-10-25T03:59:59Z", Some("2026-10-25T04:00:00Z")),
            ("0 22 * * * for 8h", "2026-10-25T04:00:00Z", None),
            // Half past two is there twice: it begins twice.
            ("30 2 * * * for 1h", "2026-10-25T00:29:59Z", None),
            ("30 2 * * * for 1h", "2026-10-25T00:30:00Z", Some("2026-10-25T01:30:00Z")),
            ("30 2 * * * for 1h", "2026-10-25T01:30:00Z", Some("2026-10-25T02:30:00Z")),
            ("30 2 * * * for 10m", "2026-10-25T00:45:00Z", None),
            ("30 2 * * * for 10m", "2026-10-25T01:35:00Z", Some("2026-10-25T01:40:00Z")),
            ("*/5 * * * * for 5m", "2026-10-25T01:04:00Z", Some("2026-10-25T01:05:00Z")),
        ] {
            let timetable = Timetable::parse(&format!("{text} in Europe/Berlin")).unwrap();
            assert_eq!(timetable.lasts_until(date(now)), until.map(date), "{text} at {now}");
        }
        // Samoa left out the whole of 30 December 2011.
        let skipped = Timetable::parse("0 12 30 12 * for 1h in Pacific/Apia").unwrap();
        assert_eq!(skipped.lasts_until(date("2011-12-30T10:30:00Z")), Some(date("2011-12-30T11:00:00Z")));
    }

    /// The same, minute by minute, as slowly as can be.
    fn slowly(timetable: &Timetable, now: i64) -> Option<i64> {
        let span = timetable.span.as_secs() as i64;
        let matches = |local: i64| {
            let (day, minute) = (local.div_euclid(DAY), local.rem_euclid(DAY) / 60);
            timetable.hours & 1 << (minute / 60) != 0
                && timetable.minutes & 1 << (minute % 60) != 0
                && timetable.is_day(day).unwrap()
        };
        let mut begin = now - now.rem_euclid(60);
        while begin > now - span {
            let (local, before) = (begin + timetable.offset(begin)?, begin - 60 + timetable.offset(begin - 60)?);
            // What the clocks show now, or have just left out.
            let mut shown = local.min(before + 60);
            while shown <= local {
                if matches(shown) && (shown == local || local - before > 60) {
                    return Some(begin + span);
                }
                shown += 60;
            }
            begin -= 60;
        }
        None
    }

    fn any_timetable() -> impl Strategy<Value = String> {
        let field = |all: &'static [&'static str]| prop::sample::select(all);
        (
            field(&["0", "30", "*", "*/7", "5-20/5,59", "1,2"]),
            field(&["0", "2", "*", "1-3", "*/6", "23"]),
            field(&["*", "1", "l", "29-31", "*/2", "15w", "30"]),
            field(&["*", "2", "mar,oct", "dec", "*/5"]),
            field(&["*", "sun", "mon-fri", "0l", "sun#2", "7"]),
            1_u64..=604_800,
            field(&[
                "UTC",
                "Europe/Berlin",
                "America/New_York",
                "Australia/Lord_Howe",
                "Asia/Kathmandu",
                "Africa/Casablanca",
            ]),
        )
            .prop_map(|(minute, hour, day, month, weekday, span, zone)| {
                format!("{minute} {hour} {day} {month} {weekday} for {span}s in {zone}")
            })
    }

    /// Anywhere, and often near a change of the clocks.
    fn any_time() -> impl Strategy<Value = i64> {
        // Berlin's changes of 2026, New York's and Lord Howe's of the same year.
        let changes = [1_774_746_000_i64, 1_792_890_000, 1_772_953_200, 1_793_512_800, 1_775_314_800, 1_791_037_800];
        let near = (prop::sample::select(changes.to_vec()), -8 * DAY..8 * DAY).prop_map(|(at, by)| at + by);
        prop_oneof![near, 0_i64..4_102_444_800]
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}") {
            let _ = Timetable::parse(&text);
        }

        #[test]
        fn any_fields_are_read_or_refused(
            fields in prop::collection::vec("[-*,/#lLwW0-9a-z]{1,6}", 5), span in 0_u64..700_000, now in any_time(),
        ) {
            let text = format!("{} for {span}", fields.join(" "));
            if let Ok(timetable) = Timetable::parse(&text) {
                prop_assert_eq!(&Timetable::parse(&timetable.to_string()).unwrap(), &timetable);
                let _ = timetable.lasts_until(OffsetDateTime::from_unix_timestamp(now).unwrap());
            }
        }

        #[test]
        fn it_ends_within_its_duration(text in any_timetable(), now in any_time()) {
            let timetable = Timetable::parse(&text).unwrap();
            let now = OffsetDateTime::from_unix_timestamp(now).unwrap();
            if let Some(until) = timetable.lasts_until(now) {
                prop_assert!(until > now && until <= now + timetable.span);
            }
        }

        #[test]
        fn quickly_is_as_slowly(text in any_timetable(), now in any_time()) {
            let timetable = Timetable::parse(&text).unwrap();
            let quickly = timetable.lasts_until(OffsetDateTime::from_unix_timestamp(now).unwrap());
            prop_assert_eq!(quickly.map(OffsetDateTime::unix_timestamp), slowly(&timetable, now));
        }
    }

    /// Whatever it is, it is asked for each container whenever the idle ones are looked for.
    #[test]
    fn the_ends_of_time_are_borne() {
        for text in ["* * * * * for 7d", "30 2 30 2 * for 7d in Europe/Berlin", "0 0 29 2 sun#5 for 1s in Pacific/Apia"]
        {
            let timetable = Timetable::parse(text).unwrap();
            for now in ["0000-01-01T00:00:00Z", "0001-03-01T00:00:00Z", "9999-12-31T23:59:59Z"] {
                let _ = timetable.lasts_until(date(now));
            }
        }
    }
}
