//! `time`: dates, hours, days of the week and of the month. The machine's clock is in UTC, and so is its own zone.
use super::*;
use crate::net::netfilter::words::value::number;
use std::fmt::Write as _;

const LOCAL_TZ: u8 = 1;
const CONTIGUOUS: u8 = 2;
const DAY: u32 = 86_400;
const ALL_WEEKDAYS: u8 = 0xfe;
const ALL_MONTHDAYS: u32 = 0xffff_fffe;
/// The last second that rules without a date name.
const EVER: u32 = i32::MAX as u32;
const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

#[derive(Clone, Debug, PartialEq)]
pub struct Time {
    dates: (u32, u32),
    day: (u32, u32),
    monthdays: u32,
    weekdays: u8,
    flags: u8,
}

impl Default for Time {
    fn default() -> Time {
        Time { dates: (0, EVER), day: (0, DAY - 1), monthdays: ALL_MONTHDAYS, weekdays: ALL_WEEKDAYS, flags: 0 }
    }
}

/// Year, month and day of a day since 1970 (Howard Hinnant's civil calendar).
fn civil(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    (year, month as u32, (doy - (153 * mp + 2) / 5 + 1) as u32)
}

fn days(year: i64, month: u32, day: u32) -> i64 {
    let y = year - i64::from(month <= 2);
    let (era, yoe) = (y.div_euclid(400), y.rem_euclid(400));
    let mp = i64::from(if month > 2 { month - 3 } else { month + 9 });
    let doy = (153 * mp + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

/// `YYYY[-MM[-DD[Thh[:mm[:ss]]]]]`.
fn date(text: &str) -> Option<u32> {
    let (date, time) = text.split_once('T').unwrap_or((text, "0"));
    let mut parts = date.split('-').map(|p| p.parse::<u32>().ok());
    let year = parts.next()??;
    let (month, day) = (parts.next().unwrap_or(Some(1))?, parts.next().unwrap_or(Some(1))?);
    if parts.next().is_some()
        || !(1970..=2038).contains(&year)
        || !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
    {
        return None;
    }
    let at = days(year.into(), month, day) * i64::from(DAY) + i64::from(hours(time)?);
    u32::try_from(at).ok()
}

/// `hh[:mm[:ss]]`.
fn hours(text: &str) -> Option<u32> {
    let mut parts = text.split(':').map(|p| p.parse::<u32>().ok());
    let (h, m, s) = (parts.next()??, parts.next().unwrap_or(Some(0))?, parts.next().unwrap_or(Some(0))?);
    (parts.next().is_none() && h < 24 && m < 60 && s < 60).then_some(h * 3600 + m * 60 + s)
}

fn clock(secs: u32) -> String {
    format!("{:02}:{:02}:{:02}", secs / 3600, secs / 60 % 60, secs % 60)
}

fn date_text(at: u32, between: char) -> String {
    let (y, m, d) = civil((at / DAY).into());
    format!("{y:04}-{m:02}-{d:02}{between}{}", clock(at % DAY))
}

impl Time {
    #[doc(alias = "time_mt_check")]
    pub fn read(r: &mut Reader<'_>) -> Result<Time, Errno> {
        let dates = (r.u32()?, r.u32()?);
        let day = (r.u32()?, r.u32()?);
        let t = Time { dates, day, monthdays: r.u32()?, weekdays: r.u8()?, flags: r.u8()? };
        // EDOM and no other error is what the kernel says of hours that a day has not got.
        if day.0 >= DAY || day.1 >= DAY {
            return Err(Errno::EDOM);
        }
        if t.flags & !(LOCAL_TZ | CONTIGUOUS) != 0 { Err(Errno::EINVAL) } else { Ok(t) }
    }

    #[doc(alias = "time_mt")]
    pub fn matches(&self, net: &Net, _: &SkBuff) -> bool {
        let now = net.env.now.saturating_add(net.env.wall_offset) / crate::env::SEC;
        self.holds(now)
    }

    fn holds(&self, now: u64) -> bool {
        if now < self.dates.0.into() || now > self.dates.1.into() {
            return false;
        }
        let secs = (now % u64::from(DAY)) as u32;
        let mut day = (now / u64::from(DAY)) as i64;
        let (start, stop) = self.day;
        if start < stop {
            if secs < start || secs > stop {
                return false;
            }
        } else {
            if secs < start && secs > stop {
                return false;
            }
            // After midnight it is still the day on which it began.
            day -= i64::from(self.flags & CONTIGUOUS != 0 && secs < stop);
        }
        // The first day of 1970 was a Thursday.
        let weekday = (day + 3).rem_euclid(7) + 1;
        self.weekdays & 1 << weekday != 0
            && (self.monthdays == ALL_MONTHDAYS || self.monthdays & 1 << civil(day).2 != 0)
    }

    fn weekday_names(&self) -> String {
        let all = WEEKDAYS.iter().enumerate().filter(|(n, _)| self.weekdays & 2 << n != 0);
        all.map(|d| *d.1).collect::<Vec<_>>().join(",")
    }

    fn monthday_names(&self, ordinal: bool) -> String {
        let all = (1..32).filter(|n| self.monthdays & 1 << n != 0);
        let suffix = |n: u32| match n % 10 {
            _ if !ordinal => "",
            1 => "st",
            2 => "nd",
            3 => "rd",
            _ => "th",
        };
        all.map(|n| format!("{n}{}", suffix(n))).collect::<Vec<_>>().join(",")
    }

    fn list(&self, o: &mut String) -> fmt::Result {
        o.push_str(" TIME");
        if self.day != (0, DAY - 1) {
            write!(o, " from {} to {}", clock(self.day.0), clock(self.day.1))?;
        }
        if self.weekdays != ALL_WEEKDAYS {
            write!(o, " on {}", self.weekday_names())?;
        }
        if self.monthdays != ALL_MONTHDAYS {
            write!(o, " on {}", self.monthday_names(true))?;
        }
        if self.dates.0 != 0 {
            write!(o, " starting from {}", date_text(self.dates.0, ' '))?;
        }
        if self.dates.1 != EVER {
            write!(o, " until date {}", date_text(self.dates.1, ' '))?;
        }
        o.push_str(if self.flags & LOCAL_TZ == 0 { " UTC" } else { "" });
        o.push_str(if self.flags & CONTIGUOUS != 0 { " contiguous" } else { "" });
        Ok(())
    }
}

impl Extension for Time {
    fn write(&self, _: Pf, w: &mut Writer) {
        [self.dates.0, self.dates.1, self.day.0, self.day.1, self.monthdays].into_iter().for_each(|v| w.u32(v));
        w.0.extend([self.weekdays, self.flags, 0, 0]);
    }

    fn print(&self, o: &mut String, v: Voice) -> fmt::Result {
        if v.list {
            return self.list(o);
        }
        if self.day != (0, DAY - 1) {
            write!(o, " --timestart {} --timestop {}", clock(self.day.0), clock(self.day.1))?;
        }
        if self.monthdays != ALL_MONTHDAYS {
            write!(o, " --monthdays {}", self.monthday_names(false))?;
        }
        if self.weekdays != ALL_WEEKDAYS {
            write!(o, " --weekdays {}", self.weekday_names())?;
        }
        if self.dates.0 != 0 {
            write!(o, " --datestart {}", date_text(self.dates.0, 'T'))?;
        }
        write!(o, " --datestop {}", date_text(self.dates.1, 'T'))?;
        o.push_str(if self.flags & LOCAL_TZ != 0 { " --kerneltz" } else { "" });
        o.push_str(if self.flags & CONTIGUOUS != 0 { " --contiguous" } else { "" });
        Ok(())
    }

    fn option(&mut self, _: Pf, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext> {
        match word {
            "--kerneltz" | "--localtz" => {
                self.flags |= LOCAL_TZ;
                return Ok(Ext::Taken);
            }
            "--utc" => return Ok(Ext::Taken),
            "--contiguous" => {
                self.flags |= CONTIGUOUS;
                return Ok(Ext::Taken);
            }
            "--timestart" | "--timestop" | "--datestart" | "--datestop" | "--weekdays" | "--monthdays" => {}
            _ => return Ok(Ext::Unknown),
        }
        let text = w.value(word)?;
        let read = |wrong: &str, n: Option<u32>| match n {
            Some(n) => Ok(n),
            None => usage(format!("{wrong}\"{text}\"")),
        };
        match word {
            "--timestart" => self.day.0 = read("invalid time ", hours(text))?,
            "--timestop" => self.day.1 = read("invalid time ", hours(text))?,
            "--datestart" => self.dates.0 = read("Invalid date ", date(text))?,
            "--datestop" => self.dates.1 = read("Invalid date ", date(text))?,
            "--weekdays" => {
                let mut bits = 0u8;
                for d in text.split(',') {
                    let named = WEEKDAYS
                        .iter()
                        .position(|n| d.len() >= 2 && n.to_ascii_lowercase().starts_with(&d.to_ascii_lowercase()));
                    let n = number(d).map(|n| n as usize).or(named.map(|n| n + 1)).filter(|n| (1..8).contains(n));
                    bits |= 1 << read("not a valid day: ", n.map(|n| n as u32))?;
                }
                self.weekdays = if inv { ALL_WEEKDAYS & !bits } else { bits };
            }
            _ => {
                let mut bits = 0u32;
                for d in text.split(',') {
                    let n =
                        number(d.trim_end_matches(|c: char| c.is_ascii_alphabetic())).filter(|n| (1..32).contains(n));
                    bits |= 1 << read("not a valid day: ", n.map(|n| n as u32))?;
                }
                self.monthdays = if inv { ALL_MONTHDAYS & !bits } else { bits };
            }
        }
        Ok(Ext::Taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_days_and_dates() {
        let at = |t: &str| u64::from(date(t).unwrap());
        let weekday = Time { weekdays: 1 << 1, ..Time::default() };
        // 2026-11-30 is a Monday.
        assert!(weekday.holds(at("2026-11-30T00:00:00")) && !weekday.holds(at("2026-12-01")));
        let night = Time { day: (23 * 3600, 3600), weekdays: 1 << 1, flags: CONTIGUOUS, ..Time::default() };
        assert!(night.holds(at("2026-11-30T23:30")) && night.holds(at("2026-12-01T00:30")));
        assert!(!night.holds(at("2026-11-30T00:30")) && !night.holds(at("2026-11-30T12:00")));
        let days = Time { monthdays: 1 << 29, ..Time::default() };
        assert!(days.holds(at("2024-02-29T12:00")) && !days.holds(at("2024-03-01")));
        let dates = Time { dates: (at("2024-01-02T03:04:05") as u32, at("2030-12-31") as u32), ..Time::default() };
        assert!(dates.holds(at("2024-01-02T03:04:05")) && !dates.holds(at("2024-01-02T03:04:04")));
        assert_eq!(date_text(EVER, 'T'), "2038-01-19T03:14:07");
    }
}
