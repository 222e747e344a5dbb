//! How it was a minute, an hour and a day ago: a few figures of each of the last 1,440 minutes, in memory alone, so that they begin
//! anew with the process.

use std::collections::VecDeque;

use serde::Serialize;

/// A day.
pub(super) const KEPT: usize = 1_440;

const HOUR: usize = 60;

/// What changed by less than this share is steady.
const STEADY: f64 = 0.1;

/// The figures of one minute, in an order that stays; not a number: there was none.
#[derive(Debug, Default)]
pub(super) struct Minutes(VecDeque<Box<[f32]>>);

impl Minutes {
    /// Adds those of the last minute.
    pub(super) fn push(&mut self, figures: &[Option<f64>]) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(figures.iter().map(|figure| figure.map_or(f32::NAN, |figure| figure as f32)).collect());
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn bytes(&self) -> usize {
        let minutes: usize = self.0.iter().map(|minute| size_of_val(&**minute)).sum();
        minutes + self.0.capacity() * size_of::<Box<[f32]>>()
    }

    /// A figure's mean over the last `minutes`, of those in which there was one.
    fn mean(&self, figure: usize, minutes: usize) -> Option<f64> {
        let of_minute = |minute: &[f32]| minute.get(figure).copied().filter(|figure| figure.is_finite());
        let known: Vec<f64> =
            self.0.iter().rev().take(minutes).filter_map(|minute| of_minute(minute)).map(f64::from).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    }

    /// How a figure stands against what it was.
    pub(super) fn trend(&self, name: String, figure: usize, now: Option<f64>) -> Trend {
        let (hour, day) = (self.mean(figure, HOUR), self.mean(figure, KEPT));
        let against = |then: Option<f64>| Some(now? / then.filter(|then| *then > 0.0)? - 1.0);
        let (against_hour, against_day) = (against(hour), against(day));
        let direction = against_hour.map(|change| match change {
            change if change > STEADY => Direction::Rising,
            change if change < -STEADY => Direction::Falling,
            _ => Direction::Steady,
        });
        Trend { name, now, hour, day, against_hour, against_day, direction }
    }
}

/// How a figure stands against what it was in the last hour and day.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trend {
    /// Of what, with its unit.
    pub name: String,
    /// In the window of the report; `None` where there was nothing to measure.
    pub now: Option<f64>,
    /// The mean of the last hour's minutes.
    pub hour: Option<f64>,
    /// The mean of the last day's.
    pub day: Option<f64>,
    /// By which share it is more than in the hour; negative: less.
    pub against_hour: Option<f64>,
    /// The same of the day.
    pub against_day: Option<f64>,
    /// Where it goes, by the hour.
    pub direction: Option<Direction>,
}

/// Where a figure goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// More than a tenth above.
    Rising,
    /// Within a tenth.
    Steady,
    /// More than a tenth below.
    Falling,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trend_is_told_against_the_hour_and_the_day() {
        let mut minutes = Minutes::default();
        let nothing = minutes.trend("p95_ms".to_owned(), 0, Some(4.0));
        assert_eq!((nothing.hour, nothing.direction), (None, None));
        (0..1_380).for_each(|_| minutes.push(&[Some(2.0)]));
        (0..60).for_each(|_| minutes.push(&[Some(4.0), None]));
        let trend = minutes.trend("p95_ms".to_owned(), 0, Some(6.0));
        assert_eq!((trend.hour, trend.direction), (Some(4.0), Some(Direction::Rising)));
        assert!((trend.against_hour.unwrap() - 0.5).abs() < 1e-9);
        let day = (1_380.0 * 2.0 + 60.0 * 4.0) / 1_440.0;
        assert!(
            (trend.day.unwrap() - day).abs() < 1e-6 && (trend.against_day.unwrap() - (6.0 / day - 1.0)).abs() < 1e-6
        );
        assert_eq!(minutes.trend("p95_ms".to_owned(), 0, Some(4.1)).direction, Some(Direction::Steady));
        assert_eq!(minutes.trend("p95_ms".to_owned(), 0, Some(3.0)).direction, Some(Direction::Falling));
        assert_eq!(minutes.trend("other".to_owned(), 1, None).hour, None, "minutes without it do not count");
    }

    #[test]
    fn a_day_is_kept() {
        let mut minutes = Minutes::default();
        let figures = vec![Some(1.0); 133];
        (0..KEPT * 2).for_each(|_| minutes.push(&figures));
        assert_eq!(minutes.len(), KEPT);
        assert!(minutes.bytes() < 1024 * 1024, "{} bytes", minutes.bytes());
    }
}
