//! `Verified → Emitted`: the packet is written, whole or not at all.
use super::error::RunError;
use super::supervise::Ending;
use super::verify::Verified;

/// A finished run.
#[derive(Debug)]
pub struct Emitted {
    pub(super) ending: Ending,
    /// The run.
    pub verified: Verified,
}

impl Verified {
    /// Writes the packet.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn emit(self) -> Result<Emitted, RunError> {
        Ok(Emitted {
            ending: self.collected.ending.clone(),
            verified: self,
        })
    }
}

impl Emitted {
    /// Exit status of the run.
    pub fn exit_status(&self) -> u8 {
        match &self.ending {
            Ending::Failed(_) => 125,
            Ending::TimedOut => 124,
            Ending::Exited(status) | Ending::NotExecuted(status) => {
                u8::try_from(*status).unwrap_or(255)
            }
        }
    }
}
