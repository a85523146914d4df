//! Being asked to stop: the step is finished and saved first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// What asks a run to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C.
    Int,
    /// What `kill`, schedulers and a machine that shuts down send.
    Term,
}

impl Signal {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Int, Self::Term];

    fn number(self) -> i32 {
        match self {
            Self::Int => SIGINT,
            Self::Term => SIGTERM,
        }
    }

    /// The exit code of a program that this signal stopped: 130 or 143.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Int => 130,
            Self::Term => 143,
        }
    }
}

/// Whether a run was asked to stop. The default is one that nobody can ask.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// 0, or the exit code of the signal.
    signal: Arc<AtomicUsize>,
}

impl Stop {
    /// Listens for SIGINT and SIGTERM. The first asks; the second, of either kind, ends the process
    /// at once with its [exit code](Signal::exit_code).
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn on_signals() -> std::io::Result<Self> {
        let stop = Self::default();
        let asked = Arc::new(AtomicBool::new(false));
        for signal in Signal::ALL {
            let (number, code) = (signal.number(), signal.exit_code().into());
            // In this order: the first signal finds that nobody has asked before.
            flag::register_conditional_shutdown(number, code, asked.clone())?;
            flag::register(number, asked.clone())?;
            flag::register_usize(number, stop.signal.clone(), usize::from(signal.exit_code()))?;
        }
        // A file that grows beyond a limit is an error like a full disk, not the end.
        #[cfg(unix)]
        flag::register(signal_hook::consts::SIGXFSZ, Arc::default())?;
        Ok(stop)
    }

    /// What asked.
    pub fn asked(&self) -> Option<Signal> {
        let code = self.signal.load(Ordering::Relaxed);
        let mut all = Signal::ALL.into_iter();
        all.find(|signal| usize::from(signal.exit_code()) == code)
    }
}

/// A run that was stopped and can go on from `step`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped by SIG{} after step {step}", match signal { Signal::Int => "INT", Signal::Term => "TERM" })]
pub struct Interrupted {
    /// What asked.
    pub signal: Signal,
    /// Steps done and saved.
    pub step: u64,
}
