//! Which choices of a streamed answer have begun, and which of them have said why they ended.

/// One bit a choice; those from the 128th on, more than OpenAI allows, share the last.
#[derive(Debug, Default)]
pub(super) struct Choices {
    begun: u128,
    ended: u128,
}

impl Choices {
    /// Takes one choice's piece.
    pub fn see(&mut self, index: u32, ends: bool) {
        let bit = 1 << index.min(u128::BITS - 1);
        self.begun |= bit;
        if ends {
            self.ended |= bit;
        }
    }

    /// Whether there was one, and each has ended.
    pub fn are_finished(&self) -> bool {
        self.ended != 0 && self.begun == self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(pieces: &[(u32, bool)]) -> bool {
        let mut choices = Choices::default();
        for (index, ends) in pieces {
            choices.see(*index, *ends);
        }
        choices.are_finished()
    }

    #[test]
    fn an_answer_has_ended_when_each_of_its_choices_has() {
        assert!(!finished(&[]));
        assert!(finished(&[(0, false), (0, true)]));
        assert!(!finished(&[(0, false), (1, false), (0, true)]));
        assert!(!finished(&[(0, true), (1, false)]), "one that begins later counts");
        assert!(finished(&[(0, true), (1, true), (1, false)]), "an afterword opens nothing");
        assert!(!finished(&[(0, true), (u32::MAX, false)]));
    }
}
