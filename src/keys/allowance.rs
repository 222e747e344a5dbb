//! What a key may use: rates, and money. A member that is not given is as `limits.*` configures it, and there is no
//! budget but a key's own.

use std::num::NonZeroU32;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The allowance of one key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowance {
    /// Requests in a minute.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Requests that may come at once; else a minute's worth.
    pub request_burst: Option<NonZeroU32>,
    /// Tokens in a minute.
    pub tokens_per_minute: Option<NonZeroU32>,
    /// Tokens that may be asked for at once; else a minute's worth.
    pub token_burst: Option<NonZeroU32>,
    /// Tokens of output that are reserved for a request that names no limit of its own.
    pub max_tokens_default: Option<NonZeroU32>,
    /// Money in a period.
    #[serde(rename = "budget_usd")]
    pub budget: Option<Money>,
    /// The budget's period; else it never begins anew.
    pub budget_period: Option<BudgetPeriod>,
}

/// After which time a budget begins anew, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum BudgetPeriod {
    /// Each day.
    Day,
    /// Each calendar month.
    Month,
    /// Never.
    Total,
}

impl BudgetPeriod {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
            Self::Total => "total",
        }
    }

    pub(super) fn parse(word: &str) -> Self {
        match word {
            "day" => Self::Day,
            "month" => Self::Month,
            _ => Self::Total,
        }
    }
}

/// US dollars, counted in billionths, so that sums are exact: one token of the cheapest models costs tens of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money(u64);

impl Money {
    /// None.
    pub const ZERO: Self = Self(0);

    /// The most that is taken as a budget.
    const MOST_USD: f64 = 1e9;

    /// An amount in dollars, rounded up; `None` where it is no amount: negative, not a number, above a billion.
    pub fn from_usd(usd: f64) -> Option<Self> {
        (0.0..=Self::MOST_USD).contains(&usd).then(|| Self((usd * 1e9).ceil() as u64))
    }

    /// An amount in billionths of a dollar.
    pub const fn from_billionths(billionths: u64) -> Self {
        Self(billionths)
    }

    /// Both together.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The amount in billionths of a dollar.
    pub const fn billionths(self) -> u64 {
        self.0
    }

    /// The amount in dollars.
    pub fn usd(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.usd())
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(given: D) -> Result<Self, D::Error> {
        let usd = f64::deserialize(given)?;
        let money = Self::from_usd(usd).filter(|money| *money > Self::ZERO);
        money.ok_or_else(|| serde::de::Error::custom(format!("{usd} is no budget: US dollars above 0, to a billion")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_counted_exactly() {
        assert_eq!(Money::from_usd(0.1).unwrap().billionths(), 100_000_000);
        assert_eq!(Money::from_usd(0.000_000_000_1).unwrap().billionths(), 1, "rounded up, never to nothing");
        for no_amount in [-1.0, f64::NAN, f64::INFINITY, 1e10] {
            assert_eq!(Money::from_usd(no_amount), None);
        }
        assert!(serde_json::from_str::<Allowance>(r#"{"budget_usd": 0}"#).is_err());
        assert!(serde_json::from_str::<Allowance>(r#"{"budget": 1}"#).is_err());
    }

    #[test]
    fn an_allowance_is_shown_as_it_is_given() {
        let given = r#"{"requests_per_minute":60,"request_burst":null,"tokens_per_minute":null,"token_burst":null,"max_tokens_default":null,"budget_usd":5.5,"budget_period":"month"}"#;
        let allowance: Allowance = serde_json::from_str(given).unwrap();
        assert_eq!(serde_json::to_string(&allowance).unwrap(), given);
    }
}
