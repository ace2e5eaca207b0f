//! What has gone wrong.

/// So many failures end the run: there is nothing left to measure.
const MAX_ERRORS: u64 = 1000;

/// Counts of the exchanges that did not end as they have to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    /// Answers that were not as expected.
    pub(crate) wrong: u64,
    /// Connections that failed.
    pub(crate) errors: u64,
}

impl Tally {
    /// Counts an answer.
    pub(crate) fn answered(&mut self, right: bool) -> Result<(), String> {
        self.wrong += u64::from(!right);
        if self.wrong > MAX_ERRORS {
            return Err("the answers are wrong".into());
        }
        Ok(())
    }

    /// Counts a failure.
    pub(crate) fn failed(&mut self) -> Result<(), String> {
        self.errors += 1;
        if self.errors > MAX_ERRORS {
            return Err("too many connections failed".into());
        }
        Ok(())
    }
}
