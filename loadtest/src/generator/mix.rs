//! Questions as people ask them: a few often and most of them rarely (Zipf's law), each in one of several wordings.

use anyhow::ensure;

use super::Chance;
use crate::provider::answer::answer_to;

/// A set of questions, and chance that a seed repeats.
#[derive(Debug)]
pub struct Mix {
    questions: Vec<Question>,
    /// The share of requests that go to each question or one before it.
    shares: Vec<f64>,
    seed: u64,
}

#[derive(Debug)]
struct Question {
    wordings: Vec<String>,
    /// How the provider begins its answer to each wording.
    answers: Vec<String>,
}

impl Mix {
    /// Reads one question a line, the most frequent first, its wordings separated by tabs; the n-th is asked `n^-exponent` times
    /// as often as the first.
    ///
    /// # Errors
    /// There is no question.
    pub fn read(lines: &str, exponent: f64, seed: u64) -> anyhow::Result<Self> {
        let questions: Vec<Question> = lines.lines().filter_map(Question::read).collect();
        ensure!(!questions.is_empty(), "no question: one a line, its wordings separated by tabs");
        let weights = (1..=questions.len()).map(|rank| (rank as f64).powf(-exponent));
        let mut shares: Vec<f64> = weights
            .scan(0.0, |sum, weight| {
                *sum += weight;
                Some(*sum)
            })
            .collect();
        let all = shares[shares.len() - 1];
        for share in &mut shares {
            *share /= all;
        }
        Ok(Self { questions, shares, seed })
    }

    /// What is asked by request `number`.
    pub fn prompt(&self, number: u64) -> &str {
        let (question, mut chance) = self.question(number);
        let wording = (chance.share() * question.wordings.len() as f64) as usize;
        &question.wordings[wording]
    }

    /// Every wording of every question, those of one question together.
    pub fn wordings(&self) -> impl Iterator<Item = &[String]> {
        self.questions.iter().map(|question| question.wordings.as_slice())
    }

    /// Whether the reply's bytes hold an answer that the provider gives to the question of request `number`, in any wording.
    pub(super) fn is_answered(&self, number: u64, reply: &[u8]) -> bool {
        let (question, _) = self.question(number);
        question.answers.iter().any(|answer| memchr::memmem::find(reply, answer.as_bytes()).is_some())
    }

    fn question(&self, number: u64) -> (&Question, Chance) {
        let mut chance = Chance::new(self.seed ^ (number + 1).wrapping_mul(0xD134_2543_DE82_EF95));
        let toss = chance.share();
        let place = self.shares.partition_point(|share| *share <= toss).min(self.questions.len() - 1);
        (&self.questions[place], chance)
    }
}

impl Question {
    fn read(line: &str) -> Option<Self> {
        let wordings: Vec<String> =
            line.split('\t').map(|wording| wording.trim().to_owned()).filter(|wording| !wording.is_empty()).collect();
        // The first word of an answer is the fingerprint of what was asked.
        let answers =
            wordings.iter().filter_map(|wording| Some(answer_to(wording).split(' ').next()?.to_owned())).collect();
        (!wordings.is_empty()).then_some(Self { wordings, answers })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const LINES: &str = "a?\tis it a?\n\nb?\nc?\nd?\n";

    #[test]
    fn the_first_question_is_asked_most_and_each_wording_is_used() {
        let mix = Mix::read(LINES, 1.0, 7).unwrap();
        let mut asked: BTreeMap<&str, u32> = BTreeMap::new();
        for number in 0..4_000 {
            *asked.entry(mix.prompt(number)).or_default() += 1;
        }
        let first = asked["a?"] + asked["is it a?"];
        // 1, 1/2, 1/3 and 1/4 of 25/12.
        for (count, share) in [(first, 0.48), (asked["b?"], 0.24), (asked["c?"], 0.16), (asked["d?"], 0.12)] {
            assert!((f64::from(count) / 4_000.0 - share).abs() < 0.03, "{asked:?}");
        }
        assert!(asked["a?"] > first / 3 && asked["is it a?"] > first / 3, "{asked:?}");
        assert_eq!(mix.prompt(5), Mix::read(LINES, 1.0, 7).unwrap().prompt(5));
    }

    #[test]
    fn an_answer_to_another_wording_is_good_and_one_to_another_question_is_not() {
        let mix = Mix::read(LINES, 0.0, 1).unwrap();
        let number = (0..100).find(|number| mix.prompt(*number) == "is it a?").unwrap();
        assert!(mix.is_answered(number, answer_to("a?").as_bytes()));
        assert!(!mix.is_answered(number, answer_to("b?").as_bytes()));
        assert!(Mix::read(" \n", 1.0, 1).is_err());
    }
}
