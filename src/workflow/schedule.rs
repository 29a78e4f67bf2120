//! When a schedule fires: five cron fields read in a time zone.

use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use croner::{Cron, Direction};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, Zoned, civil};

/// Ticks that are counted at most: a minutely schedule after years of absence costs no more than this.
const MOST_MISSED: u32 = 100;

const FIELDS: [&str; 5] = ["minute", "hour", "day of month", "month", "day of week"];
const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
/// What CronJob accepts in place of the fields; `@every` is no calendar's.
const MACROS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// Ticks on a calendar, as a Kubernetes CronJob writes them: the five fields of crontab(5) with names of months and days and
/// steps, or a macro such as `@daily`. Where day of month and day of week are both given, a day of either fires.
///
/// Where clocks change, a schedule of one time of day (`30 2 * * *`) fires once each day: at the end of the gap where
/// that time is skipped (02:30 becomes 03:00), and on the first of the two where it comes twice. (CronJob skips that day, and
/// fires twice.) Any other schedule (`*/30 * * * *`, and `30 2,14 * * *` too) follows the clock as CronJob does: nothing in
/// the gap, and both times where the clock shows one twice.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
}

/// Why a schedule cannot be used; a sentence for the user who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Not five fields.
    #[error("a schedule has five fields (minute, hour, day of month, month, day of week), such as `30 2 * * 1-5`; this has {0}")]
    Fields(usize),
    /// A macro that is none.
    #[error("`{0}` is no macro; macros are @yearly, @monthly, @weekly, @daily and @hourly")]
    Macro(String),
    /// The zone is a field of its own.
    #[error("a time zone is not part of the cron expression: take `{0}` away and write it into timeZone")]
    ZonePrefix(String),
    /// A field that cannot be read.
    #[error("the {field} `{written}` cannot be read: {reason}")]
    Field {
        /// Which of the five.
        field: &'static str,
        /// What stands there.
        written: String,
        /// What is wrong about it.
        reason: String,
    },
    /// 30 February.
    #[error("`{0}` never fires: no month it names has such a day")]
    Never(String),
    /// No such zone.
    #[error("`{0}` is no time zone of the IANA database; write one such as `Europe/Berlin` or `Etc/UTC`")]
    Zone(String),
}

/// What a schedule owes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The newest tick that is not too late.
    pub tick: Option<Timestamp>,
    /// Ticks that are passed over for it, or that all came too late; 100 stands for any more.
    pub missed: u32,
}

impl Schedule {
    /// Understands a cron expression in a zone of the IANA database that is built in; UTC where none is named.
    ///
    /// croner's own `L`, `W`, `#` and `+` are refused, as CronJob refuses them: one expression means the same in both, and none
    /// can be written that lies wholly in the gaps of a zone.
    ///
    /// # Errors
    /// What is not five fields, cannot be read, never fires, or is in no known zone.
    pub fn parse(cron: &str, time_zone: Option<&str>) -> Result<Self, ScheduleError> {
        let written = cron.trim();
        if let Some(prefix) = written.split_whitespace().next().filter(|first| first.contains("TZ=")) {
            return Err(ScheduleError::ZonePrefix(prefix.to_owned()));
        }
        let plain = expand(written)?;
        let fields: Vec<&str> = plain.split_whitespace().collect();
        if fields.len() != FIELDS.len() {
            return Err(ScheduleError::Fields(fields.len()));
        }
        FIELDS.iter().zip(&fields).try_for_each(|(field, written)| check(field, written))?;
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).sloppy_ranges(true).build();
        let alone =
            |place: usize, written: &str| (0..5).map(|at| if at == place { written } else { "*" }).collect::<Vec<_>>().join(" ");
        for (place, field) in FIELDS.iter().enumerate() {
            parser.parse(&alone(place, fields[place])).map_err(|error| unreadable(field, fields[place], &reason(error)))?;
        }
        let cron = parser.parse(plain).map_err(|error| unreadable("schedule", written, &reason(error)))?;
        // Any eight years hold each date that there is but for around 2100; the search itself ends in the year 5000.
        if cron.find_next_occurrence(&civil::datetime(2024, 1, 1, 0, 0, 0, 0), true).is_err() {
            return Err(ScheduleError::Never(written.to_owned()));
        }
        let name = time_zone.unwrap_or("UTC");
        let zone = TimeZoneDatabase::bundled().get(name).map_err(|_| ScheduleError::Zone(name.to_owned()))?;
        Ok(Self { cron, zone })
    }

    /// The first tick after a moment; none where the calendar ends.
    #[must_use]
    pub fn next_after(&self, moment: Timestamp) -> Option<Timestamp> {
        let next = self.cron.find_next_occurrence(&self.at(moment), false).ok()?;
        Some(next.timestamp())
    }

    /// The newest tick in (after, now], unless it is older than the deadline, and how many others there are. It looks back
    /// from now, so that it costs the same after a day and after years.
    #[must_use]
    pub fn due(&self, after: Timestamp, now: Timestamp, deadline: Option<SignedDuration>) -> Due {
        let ticks = self.cron.iter_from(self.at(now), Direction::Backward).map(|tick| tick.timestamp());
        let mut ticks = ticks.take_while(|tick| *tick > after).take(MOST_MISSED as usize + 1).peekable();
        let oldest = deadline.and_then(|deadline| now.checked_sub(deadline).ok());
        let tick = ticks.next_if(|tick| oldest.is_none_or(|oldest| *tick >= oldest));
        let missed = u32::try_from(ticks.count()).unwrap_or(MOST_MISSED).min(MOST_MISSED);
        Due { tick, missed }
    }

    fn at(&self, moment: Timestamp) -> Zoned {
        moment.to_zoned(self.zone.clone())
    }
}

/// The name of the run of a tick, `<workflow>-<yyyymmddhhmm>` in UTC: one tick, one name. 13 characters longer than the
/// workflow's name.
#[must_use]
pub fn run_name(workflow: &str, tick: Timestamp) -> String {
    format!("{workflow}-{}", tick.strftime("%Y%m%d%H%M"))
}

fn expand(written: &str) -> Result<&str, ScheduleError> {
    if !written.starts_with('@') {
        return Ok(written);
    }
    let known = MACROS.iter().find(|(name, _)| name.eq_ignore_ascii_case(written));
    known.map(|(_, fields)| *fields).ok_or_else(|| ScheduleError::Macro(written.to_owned()))
}

/// Refuses what croner reads and CronJob does not: names in any field and within words, and croner's own letters and signs.
fn check(field: &'static str, written: &str) -> Result<(), ScheduleError> {
    let names: &[&str] = match field {
        "month" => &MONTHS,
        "day of week" => &DAYS,
        _ => &[],
    };
    let sign = |letter: char| letter.is_ascii_digit() || "*,-/".contains(letter) || (letter == '?' && field.starts_with("day"));
    let words = written.split(|letter: char| !letter.is_alphabetic()).filter(|word| !word.is_empty());
    for word in words {
        if !names.iter().any(|name| name.eq_ignore_ascii_case(word)) {
            return Err(unreadable(field, written, &format!("`{word}` has no meaning here")));
        }
    }
    if let Some(odd) = written.chars().find(|letter| !sign(*letter) && !letter.is_alphabetic()) {
        return Err(unreadable(field, written, &format!("`{odd}` has no meaning here")));
    }
    let mut entries = written.split(',');
    if entries.any(|entry| entry.is_empty() || entry.starts_with('/')) {
        return Err(unreadable(field, written, "something is missing beside a `,` or before a `/`"));
    }
    Ok(())
}

/// croner's words without its prefixes.
fn reason(error: CronError) -> String {
    match error {
        CronError::ComponentError(reason) | CronError::IllegalCharacters(reason) | CronError::InvalidPattern(reason) => reason,
        other => other.to_string(),
    }
}

fn unreadable(field: &'static str, written: &str, reason: &str) -> ScheduleError {
    ScheduleError::Field { field, written: written.to_owned(), reason: reason.trim_end_matches('.').to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn schedule(cron: &str, zone: &str) -> Schedule {
        Schedule::parse(cron, Some(zone)).unwrap()
    }

    fn chain(schedule: &Schedule, after: Timestamp, until: Timestamp) -> Vec<Timestamp> {
        std::iter::successors(schedule.next_after(after), |tick| schedule.next_after(*tick))
            .take_while(|tick| *tick <= until)
            .collect()
    }

    fn written(ticks: &[Timestamp]) -> Vec<String> {
        ticks.iter().map(Timestamp::to_string).collect()
    }

    fn refused(cron: &str) -> String {
        Schedule::parse(cron, None).unwrap_err().to_string()
    }

    #[test]
    fn five_fields_are_read_in_their_zone() {
        let ticks = chain(&schedule("30 2 * * *", "Asia/Shanghai"), at("2026-01-01T00:00:00Z"), at("2026-01-03T00:00:00Z"));
        assert_eq!(written(&ticks), ["2026-01-01T18:30:00Z", "2026-01-02T18:30:00Z"]);
        let utc = Schedule::parse(" 30 2  * * * ", None).unwrap();
        assert_eq!(utc.next_after(at("2026-01-01T00:00:00Z")), Some(at("2026-01-01T02:30:00Z")));
    }

    #[test]
    fn names_steps_and_macros_are_what_cron_job_accepts() {
        let after = at("2026-01-01T00:00:00Z");
        for (one, same) in [
            ("0 9 * jan-MAR mon-FRI", "0 9 * 1-3 1-5"),
            ("0 0 ? * SUN", "0 0 * * 7"),
            ("5/20 * * * *", "5,25,45 * * * *"),
            ("0 0 1-7/3 * *", "0 0 1,4,7 * *"),
            ("@hourly", "0 * * * *"),
            ("@daily", "0 0 * * *"),
            ("@Midnight", "0 0 * * *"),
            ("@weekly", "0 0 * * 0"),
            ("@monthly", "0 0 1 * *"),
            ("@yearly", "0 0 1 1 *"),
        ] {
            let ticks = |cron| std::iter::successors(Some(after), move |tick| schedule(cron, "UTC").next_after(*tick)).take(12);
            assert!(ticks(one).eq(ticks(same)), "{one}");
        }
        let either = chain(&schedule("0 0 13 * FRI", "UTC"), after, at("2026-01-14T00:00:00Z"));
        assert_eq!(written(&either), ["2026-01-02T00:00:00Z", "2026-01-09T00:00:00Z", "2026-01-13T00:00:00Z"], "a day of either");
    }

    #[test]
    fn what_is_no_schedule_is_refused_in_words() {
        for (cron, said) in [
            ("", "this has 0"),
            ("30 2 * *", "this has 4"),
            ("0 30 2 * * *", "this has 6"),
            ("0 30 2 * * * 2026", "this has 7"),
            ("60 2 * * *", "the minute `60` cannot be read: Number out of bounds"),
            ("30 24 * * *", "the hour `24`"),
            ("30 2 0 * *", "the day of month `0`"),
            ("30 2 * 13 *", "the month `13`"),
            ("30 2 * * 8", "the day of week `8`"),
            ("*/0 * * * *", "the minute `*/0`"),
            ("9-5 * * * *", "the minute `9-5`"),
            ("MON * * * *", "the minute `MON` cannot be read: `MON` has no meaning here"),
            ("0 0 * * MONDAY", "`MONDAY` has no meaning here"),
            ("0 0 L * *", "`L` has no meaning here"),
            ("0 0 15W * *", "`W` has no meaning here"),
            ("0 0 * * FRI#2", "`#` has no meaning here"),
            ("0 0 13 * +FRI", "`+` has no meaning here"),
            ("? 0 * * *", "`?` has no meaning here"),
            ("1,,2 * * * *", "something is missing"),
            ("/5 * * * *", "something is missing"),
            ("@every 5m", "`@every 5m` is no macro; macros are @yearly, @monthly, @weekly, @daily and @hourly"),
            ("TZ=Europe/Berlin 30 2 * * *", "take `TZ=Europe/Berlin` away and write it into timeZone"),
            ("CRON_TZ=UTC 30 2 * * *", "take `CRON_TZ=UTC` away and write it into timeZone"),
        ] {
            let sentence = refused(cron);
            assert!(sentence.contains(said), "{cron}: {sentence}");
        }
    }

    #[test]
    fn a_day_that_never_comes_is_refused() {
        for cron in ["0 0 30 2 *", "0 0 31 4,6,9,11 *"] {
            assert_eq!(refused(cron), format!("`{cron}` never fires: no month it names has such a day"));
        }
        assert_eq!(schedule("0 0 29 2 *", "UTC").next_after(at("2025-01-01T00:00:00Z")), Some(at("2028-02-29T00:00:00Z")));
        assert!(Schedule::parse("0 0 30 2 MON", None).is_ok(), "each Monday in February");
    }

    #[test]
    fn an_unknown_zone_is_refused_with_an_example() {
        for zone in ["Mars/Olympus", "", "Local", "+02:00", "../etc/passwd"] {
            assert_eq!(
                Schedule::parse("@daily", Some(zone)).unwrap_err().to_string(),
                format!("`{zone}` is no time zone of the IANA database; write one such as `Europe/Berlin` or `Etc/UTC`")
            );
        }
    }

    #[test]
    fn a_time_of_day_that_is_skipped_comes_at_the_end_of_the_gap() {
        let berlin = chain(&schedule("30 2 * * *", "Europe/Berlin"), at("2026-03-28T00:00:00Z"), at("2026-03-30T12:00:00Z"));
        assert_eq!(
            written(&berlin),
            ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
            "03:00 in summer time"
        );
        let york = chain(&schedule("30 2 * * *", "America/New_York"), at("2026-03-07T00:00:00Z"), at("2026-03-09T12:00:00Z"));
        assert_eq!(written(&york), ["2026-03-07T07:30:00Z", "2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"]);
    }

    #[test]
    fn a_time_of_day_that_comes_twice_fires_on_the_first() {
        let berlin = chain(&schedule("30 2 * * *", "Europe/Berlin"), at("2026-10-24T00:00:00Z"), at("2026-10-26T12:00:00Z"));
        assert_eq!(written(&berlin), ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
        let york = schedule("30 1 * * *", "America/New_York");
        let york = chain(&york, at("2026-10-31T00:00:00Z"), at("2026-11-02T12:00:00Z"));
        assert_eq!(written(&york), ["2026-10-31T05:30:00Z", "2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"]);
        let york = chain(&schedule("30 2 * * *", "America/New_York"), at("2026-11-01T00:00:00Z"), at("2026-11-02T12:00:00Z"));
        assert_eq!(written(&york), ["2026-11-01T07:30:00Z", "2026-11-02T07:30:00Z"], "there 01:00 comes twice, 02:30 once");
    }

    #[test]
    fn a_daily_schedule_fires_once_on_each_day_of_the_year() {
        for zone in ["Europe/Berlin", "America/New_York"] {
            for cron in ["30 2 * * *", "30 1 * * *"] {
                let daily = schedule(cron, zone);
                let ticks = chain(&daily, at("2026-01-01T00:00:00Z"), at("2026-12-31T12:00:00Z"));
                let days: std::collections::BTreeSet<_> =
                    ticks.iter().map(|tick| tick.to_zoned(daily.zone.clone()).date()).collect();
                assert_eq!((ticks.len(), days.len()), (365, 365), "{cron} {zone}");
            }
        }
    }

    #[test]
    fn other_schedules_follow_the_clock() {
        let berlin = |cron| schedule(cron, "Europe/Berlin");
        let gap = |cron| written(&chain(&berlin(cron), at("2026-03-29T00:00:00Z"), at("2026-03-29T01:30:00Z")));
        let twice = |cron| written(&chain(&berlin(cron), at("2026-10-24T23:59:00Z"), at("2026-10-25T01:59:00Z")));
        assert_eq!(
            gap("*/30 * * * *"),
            ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"],
            "each half hour"
        );
        assert_eq!(gap("30 2,14 * * *"), [""; 0], "not made up");
        let halves = ["2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z"];
        assert_eq!(twice("*/30 * * * *"), halves);
        assert_eq!(twice("30 2,14 * * *"), ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"], "twice");
    }

    #[test]
    fn only_the_newest_missed_tick_is_made_up() {
        let hourly = schedule("@hourly", "UTC");
        let due = |after, now, deadline: Option<i64>| hourly.due(at(after), at(now), deadline.map(SignedDuration::from_secs));
        let (after, now) = ("2026-01-01T00:00:00Z", "2026-01-01T05:10:00Z");
        let five = Some(at("2026-01-01T05:00:00Z"));
        assert_eq!(due(after, now, None), Due { tick: five, missed: 4 }, "00:00 has fired already");
        assert_eq!(due(after, now, Some(600)), Due { tick: five, missed: 4 }, "the deadline itself is in time");
        assert_eq!(due(after, now, Some(599)), Due { tick: None, missed: 5 });
        assert_eq!(due(after, now, Some(i64::MAX)), Due { tick: five, missed: 4 });
        assert_eq!(due(after, "2026-01-01T01:00:00Z", None).tick, Some(at("2026-01-01T01:00:00Z")), "now counts");
        assert_eq!(due(after, "2026-01-01T00:59:59.999Z", None), Due { tick: None, missed: 0 });
        assert_eq!(due("2026-01-01T00:59:59.5Z", "2026-01-01T01:00:00.5Z", None).tick, Some(at("2026-01-01T01:00:00Z")));
        assert_eq!(due(now, after, None), Due { tick: None, missed: 0 }, "a clock that went back owes nothing");
    }

    #[test]
    fn years_of_absence_cost_no_more_than_a_day() {
        let minutely = schedule("* * * * *", "Europe/Berlin");
        let due = minutely.due(at("1990-01-01T00:00:00Z"), at("2026-01-01T00:00:30Z"), None);
        assert_eq!(due, Due { tick: Some(at("2026-01-01T00:00:00Z")), missed: 100 });
        assert_eq!(minutely.due(at("1990-01-01T00:00:00Z"), at("1990-01-01T01:40:00Z"), None).missed, 99);
        let late = minutely.due(at("1990-01-01T00:00:00Z"), at("2026-01-01T00:00:30Z"), Some(SignedDuration::from_secs(10)));
        assert_eq!(late, Due { tick: None, missed: 100 });
    }

    /// Numerical Recipes' generator: the same moments in every run.
    fn random(state: &mut u32, below: i64) -> i64 {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        i64::from(*state >> 4) % below
    }

    #[test]
    fn what_is_due_is_the_last_of_the_ticks_that_follow() {
        // Both changes of 2026 in Berlin, New York and Lord Howe (by half an hour), and a day without one.
        let days = ["2026-03-29", "2026-10-25", "2026-03-08", "2026-11-01", "2026-04-04", "2026-10-03", "2026-06-30"];
        let (mut seed, mut due) = (1, 0);
        for zone in ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"] {
            for cron in
                ["30 2 * * *", "30 1 * * *", "45 1,2,3 * * *", "*/20 2 * * *", "0 9 * * MON-FRI", "17 * * * *", "0 0 29 2 *"]
            {
                let schedule = schedule(cron, zone);
                for day in days {
                    let after = at(&format!("{day}T00:00:00Z"))
                        + SignedDuration::from_millis(random(&mut seed, 172_800_000) - 86_400_000);
                    let now = after + SignedDuration::from_millis(random(&mut seed, 2 * 86_400_000));
                    let ticks = chain(&schedule, after, now);
                    assert!(ticks.windows(2).all(|pair| pair[0] < pair[1]), "{cron} {zone} {after}");
                    let missed = u32::try_from(ticks.len().saturating_sub(1)).unwrap();
                    let expected = Due { tick: ticks.last().copied(), missed };
                    assert_eq!(schedule.due(after, now, None), expected, "{cron} {zone} ({after}, {now}]");
                    due += ticks.len();
                }
            }
        }
        assert!(due > 500, "{due}");
    }

    #[test]
    fn the_search_ends_with_the_calendar() {
        assert_eq!(schedule("* * * * *", "UTC").next_after(Timestamp::MAX), None);
        assert_eq!(schedule("* * * * *", "UTC").due(Timestamp::MIN, Timestamp::MIN, None), Due { tick: None, missed: 0 });
    }

    #[test]
    fn a_run_is_named_after_its_minute_in_utc() {
        assert_eq!(run_name("nightly-report", at("2026-03-09T02:05:00+05:30")), "nightly-report-202603082035");
    }
}
