//! What stands in an attribute's parentheses, read once: every fault is told, each with the fix.

use std::fmt::Display;
use std::str::FromStr;

use proc_macro2::{Literal, TokenStream};
use quote::ToTokens;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{Error, Expr, ExprLit, Ident, Lit, LitStr, Meta, Result, Token};

use crate::span_of_time;

/// Two words this similar may be meant for one another.
const SIMILAR: f64 = 0.7;

/// An attribute as it stands in the source.
pub struct Given {
    /// Its name.
    pub attribute: &'static str,
    /// What stands in its parentheses.
    pub tokens: TokenStream,
}

/// Options that were given, each taken out by the one who reads it.
pub struct Options {
    attribute: &'static str,
    given: Vec<Meta>,
    faults: Faults,
}

/// Faults that are told together.
#[derive(Default)]
pub struct Faults(Option<Error>);

impl Faults {
    /// Adds one.
    pub fn add(&mut self, fault: Error) {
        match &mut self.0 {
            Some(faults) => faults.combine(fault),
            None => self.0 = Some(fault),
        }
    }

    /// What a result holds, unless it is a fault.
    pub fn take<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|fault| self.add(fault)).ok()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// All of them, if there are any.
    pub fn end(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

impl Options {
    /// Reads `given`, which may hold each of `accepted` once.
    pub fn read(given: Given, accepted: &[&str]) -> Result<Self> {
        let Given { attribute, tokens } = given;
        let metas = Punctuated::<Meta, Token![,]>::parse_terminated.parse2(tokens).map_err(|error| {
            let fault =
                format!("`{attribute}` takes options as `name = value`, separated by commas: {}", listed(accepted));
            Error::new(error.span(), fault)
        })?;
        let mut options = Self { attribute, given: Vec::new(), faults: Faults::default() };
        for meta in metas {
            let name = name_of(&meta);
            if !accepted.contains(&name.as_str()) {
                options.faults.add(Error::new_spanned(meta.path(), options.unknown(&name, accepted)));
            } else if options.given.iter().any(|earlier| name_of(earlier) == name) {
                options.faults.add(Error::new_spanned(&meta, format!("`{name}` is given twice: leave one out")));
            } else {
                options.given.push(meta);
            }
        }
        Ok(options)
    }

    fn unknown(&self, name: &str, accepted: &[&str]) -> String {
        let meant = match nearest(name, accepted) {
            Some(meant) => format!("did you mean `{meant}`? it takes {}", listed(accepted)),
            None => format!("it takes {}", listed(accepted)),
        };
        format!("`{name}` is no option of `{}`: {meant}", self.attribute)
    }

    /// Faults, those found by whoever reads options among them.
    pub fn faults(&mut self) -> &mut Faults {
        &mut self.faults
    }

    /// Whether all was well.
    pub fn end(self) -> Result<()> {
        self.faults.end()
    }

    fn taken(&mut self, name: &str) -> Option<Meta> {
        let position = self.given.iter().position(|meta| name_of(meta) == name)?;
        Some(self.given.remove(position))
    }

    /// Whether an option is given, and not read yet.
    pub fn has(&self, name: &str) -> bool {
        self.given.iter().any(|meta| name_of(meta) == name)
    }

    /// A word on its own: `public`.
    pub fn flag(&mut self, name: &str) -> bool {
        let Some(meta) = self.taken(name) else { return false };
        if !matches!(meta, Meta::Path(_)) {
            self.faults
                .add(Error::new_spanned(&meta, format!("`{name}` stands alone: write `{name}`, without a value")));
        }
        true
    }

    /// The value of `name = value`, as `read` understands it.
    fn value<T>(&mut self, name: &str, wanted: &str, read: impl FnOnce(&Expr) -> Result<T>) -> Option<T> {
        let meta = self.taken(name)?;
        let result = match &meta {
            Meta::NameValue(pair) => read(&pair.value),
            _ => Err(Error::new_spanned(&meta, format!("`{name}` takes a value: write `{name} = {wanted}`"))),
        };
        self.faults.take(result)
    }

    /// A time: seconds, or a text with a unit.
    pub fn time(&mut self, name: &str) -> Option<TokenStream> {
        self.value(name, "300", |value| span_of_time::of_expr(name, value))
    }

    /// A text that is not empty.
    pub fn text(&mut self, name: &str, example: &str) -> Option<LitStr> {
        self.value(name, &format!("{example:?}"), |value| match value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) if !text.value().trim().is_empty() => Ok(text.clone()),
            _ => {
                Err(Error::new_spanned(value, format!("`{name}` takes a text in quotation marks, such as {example:?}")))
            }
        })
    }

    /// An integer within bounds.
    pub fn integer<N>(&mut self, name: &str, from: N, to: N) -> Option<N>
    where
        N: FromStr<Err: Display> + PartialOrd + Display + Copy,
    {
        self.value(name, &from.to_string(), |value| {
            let number = match value {
                Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => number.base10_parse::<N>().ok(),
                _ => None,
            };
            number
                .filter(|number| (&from..=&to).contains(&number))
                .ok_or_else(|| Error::new_spanned(value, format!("`{name}` takes a whole number from {from} to {to}")))
        })
    }

    /// A number within bounds.
    pub fn number(&mut self, name: &str, from: f64, to: f64) -> Option<Literal> {
        self.value(name, &to.to_string(), |value| {
            let number = match value {
                Expr::Lit(ExprLit { lit: Lit::Float(number), .. }) => number.base10_parse::<f64>().ok(),
                Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => number.base10_parse::<f64>().ok(),
                _ => None,
            };
            let fault = || Error::new_spanned(value, format!("`{name}` takes a number from {from} to {to}"));
            number.filter(|number| (from..=to).contains(number)).map(Literal::f64_unsuffixed).ok_or_else(fault)
        })
    }

    /// `true` or `false`.
    pub fn truth(&mut self, name: &str) -> Option<bool> {
        self.value(name, "false", |value| match value {
            Expr::Lit(ExprLit { lit: Lit::Bool(truth), .. }) => Ok(truth.value),
            _ => Err(Error::new_spanned(value, format!("`{name}` takes true or false"))),
        })
    }

    /// One of several words, with its place among them.
    pub fn word(&mut self, name: &str, words: &[&str]) -> Option<usize> {
        let text = self.text(name, words[words.len() / 2])?;
        let position = words.iter().position(|word| *word == text.value());
        if position.is_none() {
            let meant = nearest(&text.value(), words).map(|word| format!("did you mean {word:?}? "));
            let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
            let quoted: Vec<&str> = quoted.iter().map(String::as_str).collect();
            let fault = format!(
                "{:?} is no {name}: {}it takes {}",
                text.value(),
                meant.unwrap_or_default(),
                or_listed(&quoted)
            );
            self.faults.add(Error::new_spanned(&text, fault));
        }
        position
    }

    /// The name of an argument: `state = app`.
    pub fn argument(&mut self, name: &str) -> Option<Ident> {
        self.value(name, "argument", |value| match value {
            Expr::Path(path) if path.path.get_ident().is_some() => Ok(path.path.require_ident()?.clone()),
            _ => Err(Error::new_spanned(
                value,
                format!("`{name}` takes the name of an argument, without quotation marks"),
            )),
        })
    }

    /// Names of arguments in parentheses: `skip(headers, trace)`.
    pub fn arguments(&mut self, name: &str) -> Vec<Ident> {
        let Some(meta) = self.taken(name) else { return Vec::new() };
        let names = match &meta {
            Meta::List(list) => list.parse_args_with(Punctuated::<Ident, Token![,]>::parse_terminated).ok(),
            _ => None,
        };
        let read = names.filter(|names| !names.is_empty()).ok_or_else(|| {
            let fault = format!("`{name}` takes names of arguments: write `{name}(first, second)`");
            Error::new_spanned(&meta, fault)
        });
        self.faults.take(read).map(|names| names.into_iter().collect()).unwrap_or_default()
    }

    /// Texts that stand without a name, in front of everything; the rest is left to be read.
    pub fn leading_texts(given: &mut Given) -> Vec<LitStr> {
        let mut texts = Vec::new();
        let rest = Parser::parse2(
            |input: syn::parse::ParseStream<'_>| {
                while input.peek(LitStr) {
                    texts.push(input.parse::<LitStr>()?);
                    if !input.is_empty() {
                        input.parse::<Token![,]>()?;
                    }
                }
                input.parse::<TokenStream>()
            },
            given.tokens.clone(),
        );
        if let Ok(rest) = rest {
            given.tokens = rest;
        }
        texts
    }
}

fn name_of(meta: &Meta) -> String {
    meta.path().get_ident().map_or_else(|| meta.path().to_token_stream().to_string(), ToString::to_string)
}

fn nearest<'w>(name: &str, words: &[&'w str]) -> Option<&'w str> {
    let similar = words.iter().map(|word| (strsim::jaro_winkler(name, word), *word));
    let nearest = similar.max_by(|left, right| left.0.total_cmp(&right.0))?;
    (nearest.0 >= SIMILAR).then_some(nearest.1)
}

/// `` `a`, `b` and `c` ``.
fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.as_slice() {
        [] => "none".to_owned(),
        [only] => only.clone(),
        [before @ .., last] => format!("{} and {last}", before.join(", ")),
    }
}

/// `a, b or c`.
pub fn or_listed(words: &[&str]) -> String {
    match words {
        [before @ .., last] if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        _ => words.concat(),
    }
}
