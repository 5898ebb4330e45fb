//! Opening hours: when a route is one.

use jiff::Timestamp;
use jiff::tz::TimeZone;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Days since 1970 of a Monday in January 2025.
const USUAL_WEEK: i64 = 20_094;
const MINUTES: u16 = 24 * 60;

/// Days of the week, a bit each from Monday, and minutes of the day; `to` before `from` goes past
/// midnight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct HoursSpan {
    days: u8,
    from: u16,
    to: u16,
}

/// A week's hours in one time zone, and the days that are no working days.
#[derive(Clone, PartialEq, Debug)]
pub struct Hours {
    /// Its name in the configuration.
    pub name: String,
    zone: TimeZone,
    open: Vec<HoursSpan>,
    /// Year, month, day.
    closed: Vec<(i16, i8, i8)>,
}

impl Hours {
    /// Hours of `zone`; `open` holds texts such as `Mon-Fri 08:00-18:00`, `closed` dates such as
    /// `2026-12-25`.
    ///
    /// # Errors
    /// The first invalid text, and why.
    pub(crate) fn new(
        name: &str,
        zone: TimeZone,
        open: &[String],
        closed: &[String],
    ) -> Result<Hours, String> {
        let open = open
            .iter()
            .map(|text| span(text).ok_or_else(|| format!("{text:?} are no hours")))
            .collect::<Result<_, _>>()?;
        let closed = closed
            .iter()
            .map(|text| date(text).ok_or_else(|| format!("{text:?} is no date")))
            .collect::<Result<_, _>>()?;
        Ok(Hours { name: name.to_owned(), zone, open, closed })
    }

    /// Whether it is open at this moment, seconds since 1970.
    pub(crate) fn is_open(&self, unix: u64) -> bool {
        let Ok(moment) = Timestamp::from_second(unix as i64) else { return false };
        let local = moment.to_zoned(self.zone.clone());
        let day = local.weekday().to_monday_zero_offset() as u8;
        let minute = local.hour() as u16 * 60 + local.minute() as u16;
        let is_closed = |date: jiff::civil::Date| {
            self.closed.contains(&(date.year(), date.month(), date.day()))
        };
        let yesterday = local.date().yesterday().ok();
        self.open.iter().any(|span| {
            let on = |day: u8| span.days & (1 << day) != 0;
            if span.from < span.to {
                return on(day)
                    && (span.from..span.to).contains(&minute)
                    && !is_closed(local.date());
            }
            let evening = on(day) && minute >= span.from && !is_closed(local.date());
            let night = on((day + 6) % 7) && minute < span.to && !yesterday.is_some_and(is_closed);
            evening || night
        })
    }

    /// Whether somebody among `these` is open whenever `other` is; no hours are always open. Looked
    /// at minute by minute over a week, and on the days any of them is closed.
    pub(crate) fn cover(these: &[Option<&Hours>], other: Option<&Hours>) -> bool {
        if these.iter().any(Option::is_none) || (other.is_some() && these.contains(&other)) {
            return true;
        }
        let these: Vec<&Hours> = these.iter().copied().flatten().collect();
        let minutes_of = |day: i64| {
            (0..i64::from(MINUTES)).map(move |m| ((day * i64::from(MINUTES) + m) * 60) as u64)
        };
        let special = these
            .iter()
            .flat_map(|h| &h.closed)
            .filter_map(|(y, m, d)| jiff::civil::Date::new(*y, *m, *d).ok());
        let special = special
            .filter_map(|d| Some(d.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second() / 86_400))
            .flat_map(|d| d - 1..=d + 1);
        // A week without a change of the clocks in most of the world.
        let week = USUAL_WEEK..USUAL_WEEK + 7;
        week.chain(special).flat_map(minutes_of).all(|unix| {
            other.is_some_and(|o| !o.is_open(unix)) || these.iter().any(|h| h.is_open(unix))
        })
    }
}

fn date(text: &str) -> Option<(i16, i8, i8)> {
    let date: jiff::civil::Date = text.trim().parse().ok()?;
    Some((date.year(), date.month(), date.day()))
}

fn span(text: &str) -> Option<HoursSpan> {
    let (days, hours) = text.trim().split_once(char::is_whitespace)?;
    let (from, to) = hours.trim().split_once('-')?;
    let span = HoursSpan { days: weekdays(days)?, from: minute(from)?, to: minute(to)? };
    (span.from != span.to && span.from < MINUTES).then_some(span)
}

/// `Mon`, `Mon-Fri`, `Sat,Sun`, `daily`.
fn weekdays(text: &str) -> Option<u8> {
    if text.eq_ignore_ascii_case("daily") {
        return Some(0x7f);
    }
    let day = |name: &str| DAYS.iter().position(|d| d.eq_ignore_ascii_case(name.trim()));
    text.split(',').try_fold(0u8, |days, part| match part.split_once('-') {
        None => Some(days | 1 << day(part)?),
        Some((first, last)) => {
            let (first, last) = (day(first)?, day(last)?);
            Some((0..=(last + 7 - first) % 7).fold(days, |days, n| days | 1 << ((first + n) % 7)))
        }
    })
}

fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let minutes = hour
        .parse::<u16>()
        .ok()?
        .checked_mul(60)?
        .checked_add(minute.parse::<u16>().ok().filter(|m| *m < 60)?)?;
    (minutes <= MINUTES).then_some(minutes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(open: &[&str], closed: &[&str]) -> Result<Hours, String> {
        let texts = |list: &[&str]| list.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        Hours::new(
            "x",
            TimeZone::get("America/Los_Angeles").expect("a zone"),
            &texts(open),
            &texts(closed),
        )
    }

    fn at(text: &str) -> u64 {
        text.parse::<Timestamp>().expect("a moment").as_second() as u64
    }

    #[test]
    fn a_week_has_its_hours_in_its_own_zone_and_summer_moves_them() {
        let office =
            hours(&["Mon-Fri 08:00-18:00", "Sat 10:00-14:00"], &["2026-12-25"]).expect("hours");
        for (moment, open) in [
            ("2026-11-20T17:01:00Z", true),  // Friday 09:01
            ("2026-11-20T15:59:00Z", false), // 07:59
            ("2026-11-21T02:00:00Z", false), // Friday 18:00
            ("2026-11-21T19:00:00Z", true),  // Saturday 11:00
            ("2026-11-22T19:00:00Z", false), // Sunday
            ("2026-07-20T15:01:00Z", true),  // summer, 08:01
            ("2026-12-25T18:00:00Z", false), // a Friday that is a holiday
        ] {
            assert_eq!(office.is_open(at(moment)), open, "{moment}");
        }
    }

    #[test]
    fn a_night_belongs_to_the_day_it_began() {
        let night = hours(&["Fri 22:00-06:00"], &[]).expect("hours");
        assert!(night.is_open(at("2026-11-21T07:00:00Z")), "Friday 23:00");
        assert!(night.is_open(at("2026-11-21T13:59:00Z")), "Saturday 05:59");
        assert!(
            !night.is_open(at("2026-11-21T14:00:00Z"))
                && !night.is_open(at("2026-11-20T13:00:00Z"))
        );
        assert!(hours(&["daily 00:00-24:00"], &[]).expect("hours").is_open(0));
        assert!(
            hours(&["Sat-Mon 09:00-10:00"], &[])
                .expect("hours")
                .is_open(at("2026-11-23T17:30:00Z")),
            "a week goes round"
        );
    }

    #[test]
    fn an_invalid_time_is_reported() {
        for wrong in [
            "Mon 8-18",
            "Funday 08:00-18:00",
            "Mon",
            "Mon 08:00-25:00",
            "Mon 08:60-09:00",
            "Mon 08:00-08:00",
        ] {
            assert!(hours(&[wrong], &[]).expect_err(wrong).contains(wrong));
        }
        assert!(hours(&[], &["25.12."]).is_err());
    }
}
