//! The numbers of a text in one spelling, so that "fifteen percent" and "15%" are the same and 1914 is not 1941.
//!
//! Owns digits, number words, ordinals, versions and multipliers. Leaves units to the comparison of words: they
//! stand in the text beside the number.

use super::words::{NUMBER_WORDS, SCALES};

/// Reads a token that begins with a digit or is a fraction: gives the number in one spelling and what is glued to it
/// ("5km" is "5" and "km"). `None` if the token is no number.
pub fn split_digits(token: &str) -> Option<(String, &str)> {
    let (sign, rest) = match token.strip_prefix(['-', '−']) {
        Some(rest) => ("-", rest),
        None => ("", token),
    };
    let rest = rest.trim_start_matches(['$', '€', '£', '#', '~', '+']);
    if !rest.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let is_part = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',' | ':' | '/');
    let end = rest.find(|c: char| !is_part(c)).unwrap_or(rest.len());
    let (digits, glued) = rest.split_at(end);
    let digits = digits.trim_end_matches(['.', ',', ':', '/']);
    Some((format!("{sign}{}", canonical(digits)), glued))
}

/// Drops thousands separators and trailing zeros of a decimal; versions and times keep their parts.
fn canonical(digits: &str) -> String {
    let groups: Vec<&str> = digits.split(',').collect();
    let grouped = groups.len() > 1 && groups[1..].iter().all(|group| group.len() == 3 || group.contains('.'));
    if grouped { groups.concat() } else { digits.to_owned() }
}

/// What a suffix says about the number before it: a factor, or nothing where it is an ordinal's ending.
pub fn scaled(number: &str, suffix: &str) -> Option<String> {
    match suffix {
        "st" | "nd" | "rd" | "th" | "x" => Some(number.to_owned()),
        "k" => times(number, 1_000),
        "m" | "mn" => times(number, 1_000_000),
        "bn" => times(number, 1_000_000_000),
        _ => None,
    }
}

/// Multiplies a whole number; others keep their spelling, which still compares equal to itself.
pub fn times(number: &str, factor: u64) -> Option<String> {
    number.parse::<u64>().ok()?.checked_mul(factor).map(|product| product.to_string())
}

/// The value of a number word.
pub fn word_value(word: &str) -> Option<u64> {
    NUMBER_WORDS.iter().find(|(name, _)| *name == word).map(|&(_, value)| value)
}

/// The factor of a word like "thousand".
pub fn scale_value(word: &str) -> Option<u64> {
    SCALES.iter().find(|(name, _)| *name == word || word.strip_suffix('s') == Some(name)).map(|&(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(token: &str) -> Option<(String, String)> {
        split_digits(token).map(|(number, glued)| (number, glued.to_owned()))
    }

    #[test]
    fn one_spelling_for_one_number() {
        assert_eq!(split("1,000"), Some(("1000".into(), String::new())));
        assert_eq!(split("$5.99"), Some(("5.99".into(), String::new())));
        assert_eq!(split("-5"), Some(("-5".into(), String::new())));
        assert_eq!(split("5km"), Some(("5".into(), "km".into())));
        assert_eq!(split("15%"), Some(("15".into(), "%".into())));
        assert_eq!(split("3.12.1"), Some(("3.12.1".into(), String::new())));
        assert_eq!(split("x86"), None);
        assert_eq!(scaled("5", "k"), Some("5000".into()));
        assert_eq!(word_value("fifteen"), Some(15));
        assert_eq!(scale_value("thousands"), Some(1000));
    }
}
