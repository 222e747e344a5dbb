//! Times in attributes: whole seconds, or a text with a unit.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, Expr, ExprLit, Lit, Result};

/// Units in milliseconds, in the order in which errors name them.
const UNITS: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Ten years: whatever is longer is a slip.
const LONGEST_MS: u64 = 3_650 * 86_400_000;

/// The value of the option `name` as an expression of type [`Duration`].
pub fn of_expr(name: &str, value: &Expr) -> Result<TokenStream> {
    let read = match value {
        Expr::Lit(ExprLit { lit: Lit::Int(seconds), .. }) if seconds.suffix().is_empty() => {
            seconds.base10_parse::<u64>().ok().and_then(|seconds| seconds.checked_mul(1_000)).map(Duration::from_millis)
        }
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => of_text(&text.value()),
        _ => None,
    };
    read.filter(is_sensible).map(tokens).ok_or_else(|| {
        let accepted = "takes whole seconds from 1 on, or a time with its unit (ms, s, m, h, d), such as \"5m\"";
        Error::new_spanned(value, format!("`{name}` {accepted}"))
    })
}

/// A time with its unit: `250ms`, `5 m`.
pub fn of_text(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let factor = UNITS.iter().find(|(name, _)| *name == unit.trim_start()).map(|(_, factor)| *factor)?;
    number.parse::<u64>().ok()?.checked_mul(factor).map(Duration::from_millis).filter(is_sensible)
}

fn is_sensible(time: &Duration) -> bool {
    (1..=u128::from(LONGEST_MS)).contains(&time.as_millis())
}

/// The time as an expression.
pub fn tokens(time: Duration) -> TokenStream {
    let ms = u64::try_from(time.as_millis()).unwrap_or(LONGEST_MS);
    if ms.is_multiple_of(1_000) {
        let seconds = ms / 1_000;
        return quote!(::core::time::Duration::from_secs(#seconds));
    }
    quote!(::core::time::Duration::from_millis(#ms))
}
