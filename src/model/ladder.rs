//! The ladder: after how much idleness a container goes down which rung, what counts as use, and when nothing does.
//! What is set for a container goes before what its image's labels say, and that before the server's.

use std::{collections::BTreeMap, fmt};

use super::{Error, Result, Timeout, Timetable, birth};

/// What can count as use, of what the server sees for itself or is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Data that moves on connections to its ports.
    Traffic,
    /// Keys that are typed at its terminals.
    Terminal,
    /// Processors that work for it.
    Processor,
    /// Disks that are read and written for it.
    Disk,
    /// The connections that it reports itself.
    Connections,
}

impl Source {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Traffic, Self::Terminal, Self::Processor, Self::Disk, Self::Connections];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Traffic => "traffic",
            Self::Terminal => "terminal",
            Self::Processor => "processor",
            Self::Disk => "disk",
            Self::Connections => "connections",
        }
    }
}

/// From when on a source counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heed {
    /// Never.
    Off,
    /// Always.
    On,
    /// Unless the server sees for itself: then its word counts no more.
    Auto,
    /// Above this: of a processor in thousandths, of disks in bytes a second.
    Above(u64),
}

/// What is heeded of each source; what is not among these is left to whoever is further away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heeds(BTreeMap<Source, Heed>);

/// A working processor's share, in thousandths, and the bytes a second, that count unless something else is said.
const PROCESSOR: u64 = 50;
const DISK: u64 = 1 << 20;

impl Heeds {
    /// What holds unless something else is said.
    fn standard(source: Source) -> Heed {
        match source {
            Source::Traffic | Source::Terminal => Heed::On,
            Source::Processor => Heed::Above(PROCESSOR),
            Source::Disk => Heed::Above(DISK),
            Source::Connections => Heed::Auto,
        }
    }

    /// What is heeded of a source.
    pub fn of(&self, source: Source) -> Heed {
        self.0.get(&source).copied().unwrap_or_else(|| Self::standard(source))
    }

    /// Sets it from text: `on`, `off`; `5%` of a processor; `1m` bytes a second; `auto` for what is reported.
    ///
    /// # Errors
    /// `Invalid`, saying what is taken.
    pub fn set(&mut self, name: &str, text: &str) -> Result<()> {
        let source = Source::ALL.into_iter().find(|source| source.as_str() == name).ok_or_else(|| {
            let known = Source::ALL.map(Source::as_str).join(", ");
            Error::invalid(format!("there is no evidence {:?}: known are {known}", clip(name)))
        })?;
        let refused = || {
            let taken = match source {
                Source::Traffic | Source::Terminal => "on or off",
                Source::Processor => "on, off, or a share of one processor (5%)",
                Source::Disk => "on, off, or bytes a second (64k, 1m)",
                Source::Connections => "on, off or auto",
            };
            Error::invalid(format!("{name} is {taken}, not {:?}", clip(text)))
        };
        let heed = match (source, text.trim()) {
            (_, "off") => Heed::Off,
            (Source::Connections, "auto") => Heed::Auto,
            (Source::Processor | Source::Disk, "on") => Self::standard(source),
            (_, "on") => Heed::On,
            (Source::Processor, share) => Heed::Above(thousandths(share).ok_or_else(refused)?),
            (Source::Disk, bytes) => Heed::Above(rate(bytes).ok_or_else(refused)?),
            _ => return Err(refused()),
        };
        self.0.insert(source, heed);
        Ok(())
    }

    /// Reads `processor=10% disk=off`.
    ///
    /// # Errors
    /// As for [`Heeds::set`].
    pub fn parse(text: &str) -> Result<Self> {
        let mut heeds = Self::default();
        for pair in text.split_whitespace() {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| Error::invalid(format!("{:?} is not a pair like processor=10%", clip(pair))))?;
            heeds.set(name, value)?;
        }
        Ok(heeds)
    }

    /// What is set, each as text.
    pub fn texts(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.0.iter().map(|(source, heed)| (source.as_str(), written(*source, *heed)))
    }

    /// Each source as it holds, as text.
    pub fn effective(&self) -> BTreeMap<&'static str, String> {
        Source::ALL.map(|source| (source.as_str(), written(source, self.of(source)))).into()
    }
}

impl fmt::Display for Heeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<_> = self.texts().map(|(name, value)| format!("{name}={value}")).collect();
        f.write_str(&pairs.join(" "))
    }
}

fn written(source: Source, heed: Heed) -> String {
    match (source, heed) {
        (_, Heed::Off) => "off".to_owned(),
        (_, Heed::On) => "on".to_owned(),
        (_, Heed::Auto) => "auto".to_owned(),
        (Source::Processor, Heed::Above(share)) if share % 10 == 0 => format!("{}%", share / 10),
        (Source::Processor, Heed::Above(share)) => format!("{}.{}%", share / 10, share % 10),
        (_, Heed::Above(bytes)) => match bytes {
            bytes if bytes.is_multiple_of(1 << 20) => format!("{}m", bytes >> 20),
            bytes if bytes.is_multiple_of(1 << 10) => format!("{}k", bytes >> 10),
            bytes => bytes.to_string(),
        },
    }
}

/// `12.5%` in thousandths, from 0.1 % to a hundred processors.
fn thousandths(text: &str) -> Option<u64> {
    let number = text.strip_suffix('%')?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 1 {
        return None;
    }
    let share = whole.parse::<u64>().ok()?.checked_mul(10)?.checked_add(part.parse().ok()?)?;
    (1..=100_000).contains(&share).then_some(share)
}

/// `1m` in bytes a second, up to a terabyte.
fn rate(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let units = [('k', 10), ('m', 20), ('g', 30)];
    let unit = units.into_iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)));
    let (number, shift) = unit.unwrap_or((&text, 0));
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let bytes = number.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    (1..=1 << 40).contains(&bytes).then_some(bytes)
}

/// What is set of a ladder for one container, one image or the server, beside the idle timeout, which every container has
/// of its own. What is `None` is left to whoever is further away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rungs {
    /// After how much idleness it is frozen.
    pub freeze_after: Option<Timeout>,
    /// How long it may be down before it is deleted.
    pub delete_after: Option<Timeout>,
    /// How long it may be up at a stretch, however busy it is.
    pub max_age: Option<Timeout>,
    /// How long before a stop whoever is logged in is told.
    pub warn_before: Option<Timeout>,
    /// When nothing sleeps.
    pub keep_awake: Option<Vec<Timetable>>,
    /// What counts as use.
    pub evidence: Heeds,
}

/// The word that leaves a rung to whoever is further away.
pub const DEFAULT: &str = "default";

impl Rungs {
    /// Their names, as requests, records, labels and the configuration have them.
    pub const NAMES: [&str; 6] = ["freeze_after", "delete_after", "max_age", "warn_before", "keep_awake", "evidence"];

    /// Sets one from text; `default` leaves it to whoever is further away.
    ///
    /// # Errors
    /// `Invalid`, saying what is taken.
    pub fn set(&mut self, name: &str, text: &str) -> Result<()> {
        let given = text.trim() != DEFAULT;
        let span = || if given { Timeout::parse(text).map(Some) } else { Ok(None) };
        match name {
            "freeze_after" => self.freeze_after = span()?,
            "delete_after" => self.delete_after = span()?,
            "max_age" => self.max_age = span()?,
            "warn_before" => self.warn_before = span()?,
            "keep_awake" => self.keep_awake = if given { Some(Timetable::parse_all(text)?) } else { None },
            "evidence" => self.evidence = if given { Heeds::parse(text)? } else { Heeds::default() },
            _ => return Err(Error::invalid(format!("there is no {:?} to set", clip(name)))),
        }
        Ok(())
    }

    /// Takes one over as `other` has it.
    pub fn take_over(&mut self, name: &str, other: &Self) {
        match name {
            "freeze_after" => self.freeze_after = other.freeze_after,
            "delete_after" => self.delete_after = other.delete_after,
            "max_age" => self.max_age = other.max_age,
            "warn_before" => self.warn_before = other.warn_before,
            "keep_awake" => self.keep_awake.clone_from(&other.keep_awake),
            "evidence" => self.evidence.clone_from(&other.evidence),
            _ => {}
        }
    }

    /// What is set, each as text that [`Rungs::set`] reads.
    pub fn texts(&self) -> BTreeMap<&'static str, String> {
        let spans = [
            ("freeze_after", self.freeze_after),
            ("delete_after", self.delete_after),
            ("max_age", self.max_age),
            ("warn_before", self.warn_before),
        ];
        let spans = spans.into_iter().filter_map(|(name, span)| Some((name, span?.to_string())));
        let awake = self.keep_awake.as_ref().map(|tables| {
            let tables: Vec<_> = tables.iter().map(ToString::to_string).collect();
            ("keep_awake", tables.join("; "))
        });
        let evidence = (self.evidence != Heeds::default()).then(|| ("evidence", self.evidence.to_string()));
        spans.chain(awake).chain(evidence).collect()
    }

    /// The labels of birth from which they are restored. What is not set is there as `default`: an image that was made from
    /// another container has that one's labels, which must not be taken for this one's.
    pub fn birth_labels(&self) -> impl Iterator<Item = (String, String)> {
        let mut texts = self.texts();
        Self::NAMES.into_iter().map(move |name| {
            let text = texts.remove(name).unwrap_or_else(|| DEFAULT.to_owned());
            (format!("{}{name}", birth::RUNG_PREFIX), text)
        })
    }

    /// What the labels of an image say, each under `prefix` and its name. What cannot be read is left out, and named.
    pub fn of_labels(labels: &BTreeMap<String, String>, prefix: &str) -> (Self, Vec<Error>) {
        let (mut rungs, mut faults) = (Self::default(), Vec::new());
        for name in Self::NAMES {
            if let Some(text) = labels.get(&format!("{prefix}{name}"))
                && let Err(error) = rungs.set(name, text)
            {
                faults.push(Error::invalid(format!("the label {prefix}{name}: {}", error.message())));
            }
        }
        (rungs, faults)
    }
}

/// The labels with which an image says what holds for its containers: this, and the name of what it sets.
pub const IMAGE_PREFIX: &str = "spindown.";

/// The ladder as it holds for one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// After how much idleness it is frozen.
    pub freeze_after: Timeout,
    /// After how much idleness it is stopped.
    pub idle_timeout: Timeout,
    /// How long it may be down before it is deleted.
    pub delete_after: Timeout,
    /// How long it may be up at a stretch.
    pub max_age: Timeout,
    /// How long before a stop whoever is logged in is told; `Never` if they are not.
    pub warn_before: Timeout,
    /// When nothing sleeps.
    pub keep_awake: Vec<Timetable>,
    /// What counts as use.
    pub evidence: Heeds,
}

impl Ladder {
    /// The one that follows from the container's idle timeout and from what is set, the nearest first.
    pub fn of(idle_timeout: Timeout, nearest_first: [&Rungs; 3]) -> Self {
        let span = |of: fn(&Rungs) -> Option<Timeout>| nearest_first.into_iter().find_map(of).unwrap_or(Timeout::Never);
        let mut evidence = Heeds::default();
        for rungs in nearest_first.into_iter().rev() {
            evidence.0.extend(&rungs.evidence.0);
        }
        Self {
            freeze_after: span(|rungs| rungs.freeze_after),
            idle_timeout,
            delete_after: span(|rungs| rungs.delete_after),
            max_age: span(|rungs| rungs.max_age),
            warn_before: span(|rungs| rungs.warn_before),
            keep_awake: nearest_first.into_iter().find_map(|r| r.keep_awake.clone()).unwrap_or_default(),
            evidence,
        }
    }
}

/// As much of a caller's text as an answer repeats.
fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_source_takes_what_makes_sense_of_it() {
        for (name, text, shown) in [
            ("traffic", "off", "off"),
            ("terminal", "on", "on"),
            ("processor", "12.5%", "12.5%"),
            ("processor", "on", "5%"),
            ("processor", "100%", "100%"),
            ("disk", "64K", "64k"),
            ("disk", "1000", "1000"),
            ("disk", "on", "1m"),
            ("connections", "auto", "auto"),
        ] {
            let mut heeds = Heeds::default();
            heeds.set(name, text).unwrap();
            assert_eq!(heeds.to_string(), format!("{name}={shown}"), "{text}");
            assert_eq!(Heeds::parse(&heeds.to_string()).unwrap(), heeds);
        }
        for (name, text) in [
            ("traffic", "5%"),
            ("terminal", "auto"),
            ("processor", "5"),
            ("processor", "0%"),
            ("processor", "1.25%"),
            ("processor", ".5%"),
            ("processor", "%"),
            ("disk", "0"),
            ("disk", "-1"),
            ("disk", "1mk"),
            ("disk", "m"),
            ("connections", "1"),
            ("keys", "on"),
        ] {
            assert!(Heeds::default().set(name, text).is_err(), "{name}={text}");
        }
        assert!(Heeds::parse("processor").is_err());
    }

    #[test]
    fn the_nearest_wins() {
        let after = |seconds| Some(Timeout::After(Duration::from_secs(seconds)));
        let server = Rungs { freeze_after: after(60), max_age: after(600), ..Rungs::default() };
        let image = Rungs {
            freeze_after: Some(Timeout::Never),
            evidence: Heeds::parse("disk=off").unwrap(),
            ..Rungs::default()
        };
        let own = Rungs { max_age: after(5), evidence: Heeds::parse("processor=off").unwrap(), ..Rungs::default() };
        let ladder = Ladder::of(Timeout::Never, [&own, &image, &server]);
        assert_eq!((ladder.freeze_after, ladder.max_age), (Timeout::Never, Timeout::After(Duration::from_secs(5))));
        assert_eq!(ladder.delete_after, Timeout::Never);
        assert_eq!(ladder.evidence.to_string(), "processor=off disk=off");
        assert_eq!(ladder.evidence.of(Source::Traffic), Heed::On);
    }

    #[test]
    fn what_is_set_is_read_back() {
        let mut rungs = Rungs::default();
        for (name, text) in [
            ("freeze_after", "10m"),
            ("delete_after", "never"),
            ("keep_awake", "0 9 * * 1-5 for 8h in Europe/Berlin; 0 0 1 * * for 1h"),
            ("evidence", "processor=20% connections=on"),
        ] {
            rungs.set(name, text).unwrap();
        }
        let mut again = Rungs::default();
        for (name, text) in rungs.texts() {
            again.set(name, &text).unwrap();
        }
        assert_eq!(again, rungs);
        rungs.set("keep_awake", "").unwrap();
        assert_eq!(rungs.keep_awake, Some(Vec::new()), "nothing is something: no timetable, whatever the image says");
        let table = "0 9 * * * for 1h;";
        rungs.set("keep_awake", &table.repeat(16)).unwrap();
        rungs.set("max_age", "never").unwrap();
        rungs.set("warn_before", "1m").unwrap();
        let given = rungs.clone();
        assert!(rungs.set("keep_awake", &table.repeat(17)).unwrap_err().message().contains("at most 16"));
        let mut taken = Rungs::default();
        for name in Rungs::NAMES {
            taken.take_over(name, &rungs);
            rungs.set(name, DEFAULT).unwrap();
        }
        assert_eq!((taken, rungs.clone()), (given, Rungs::default()));
        assert!(rungs.set("idle", "1m").is_err());
    }

    #[test]
    fn an_image_made_from_a_container_passes_nothing_of_it_on() {
        let mut other = Rungs::default();
        for (name, text) in [("freeze_after", "10m"), ("keep_awake", "0 9 * * * for 1h"), ("evidence", "disk=off")] {
            other.set(name, text).unwrap();
        }
        let mut labels: BTreeMap<_, _> = other.birth_labels().collect();
        let read = |labels: &_| Rungs::of_labels(labels, birth::RUNG_PREFIX).0;
        assert_eq!(read(&labels), other);
        let mut own = Rungs::default();
        own.set("max_age", "1d").unwrap();
        labels.extend(own.birth_labels());
        assert_eq!(read(&labels), own);
    }

    #[test]
    fn labels_that_cannot_be_read_are_named_and_left_out() {
        let labels = BTreeMap::from([
            ("spindown.freeze_after".to_owned(), "soon".to_owned()),
            ("spindown.max_age".to_owned(), "1d".to_owned()),
        ]);
        let (rungs, faults) = Rungs::of_labels(&labels, IMAGE_PREFIX);
        assert_eq!(rungs.max_age, Some(Timeout::After(Duration::from_secs(86_400))));
        assert_eq!(rungs.freeze_after, None);
        assert!(faults[0].message().starts_with("the label spindown.freeze_after: "), "{faults:?}");
    }

    /// Timetables whose texts are about as long as may be, about as many as may be, however they are put together.
    fn long_tables() -> impl Strategy<Value = String> {
        let zone = prop::sample::select(vec!["", " in UTC", " in Etc/UTC", " in America/Argentina/Buenos_Aires"]);
        let table = (prop_oneof![0_usize..4, 70_usize..76, 82_usize..93], 1_u64..610_000, zone, " {0,2}").prop_map(
            |(many, span, zone, space)| format!("{space}{}59 9 * * * for {span}{zone}{space}", "0,".repeat(many)),
        );
        let between = prop::sample::select(vec![";", "; ", ";;", " ; "]);
        (prop_oneof![1_usize..3, 15_usize..18], table, between)
            .prop_map(|(many, table, between)| vec![table; many].join(between))
    }

    fn numbers(limits: &'static [u64]) -> impl Strategy<Value = u64> {
        (prop::sample::select(limits), 0_u64..5).prop_map(|(limit, by)| (limit + by).saturating_sub(2))
    }

    fn long_evidence() -> impl Strategy<Value = String> {
        let unit = prop::sample::select(vec!["", "k", "K", "m", "g"]);
        let disk = numbers(&[0, 1_000, 1 << 10, 1 << 20, 1 << 30, 1 << 40]);
        let processor = (numbers(&[0, 100, 10_000]), prop::sample::select(vec!["", ".0", ".1", ".9"]));
        (disk, unit, processor).prop_map(|(disk, unit, (whole, part))| {
            format!("disk={disk}{unit}  processor=0{whole}{part}% traffic=off terminal=on connections=auto")
        })
    }

    fn long_span() -> impl Strategy<Value = String> {
        let unit = prop::sample::select(vec!["", "s", "m", "h", "d", "w"]);
        let number = numbers(&[0, 521, 3_650, 87_600, 5_256_000, 315_360_000]);
        (number, unit).prop_map(|(number, unit)| format!(" 0{number}{unit} "))
    }

    proptest! {
        /// What cannot be read again would be a damaged record.
        #[test]
        fn whatever_is_taken_is_taken_again_as_it_is_written(
            tables in long_tables(), evidence in long_evidence(), span in long_span(),
        ) {
            for (name, text) in [("keep_awake", tables), ("evidence", evidence), ("max_age", span)] {
                let (mut rungs, mut again) = (Rungs::default(), Rungs::default());
                if rungs.set(name, &text).is_ok() {
                    let written = &rungs.texts()[name];
                    prop_assert!(again.set(name, written).is_ok(), "{text:?} is written {written:?}");
                    prop_assert_eq!(&again, &rungs);
                    prop_assert_eq!(&again.texts()[name], written);
                }
            }
        }

        #[test]
        fn any_text_is_read_or_refused(name in "[a-z_]{0,12}", text in ".{0,40}") {
            let _ = Heeds::default().set(&name, &text);
            for name in Rungs::NAMES {
                let _ = Rungs::default().set(name, &text);
            }
        }
    }
}
