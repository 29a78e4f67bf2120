//! How long a body may say nothing.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Notices when nothing has come for too long. The timer is made when somebody has to wait, and not for each frame: what
/// flows costs no timer.
#[derive(Debug)]
pub struct Patience {
    limit: Option<Duration>,
    last: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// For so many seconds; 0 stands for ever.
    pub fn new(seconds: u64) -> Self {
        Self { limit: (seconds > 0).then(|| Duration::from_secs(seconds)), last: None, timer: None }
    }

    /// Something came.
    pub fn progressed(&mut self) {
        if self.timer.is_some() {
            self.last = Some(Instant::now());
        }
    }

    /// Ready when nothing has come for too long. To be asked when there is nothing.
    pub fn poll_spent(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(limit) = self.limit else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        loop {
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            match self.last.take() {
                Some(last) if last + limit > Instant::now() => timer.as_mut().reset(last + limit),
                _ => return Poll::Ready(()),
            }
        }
    }
}
