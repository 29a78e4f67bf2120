//! What is under way: the process ends when it has ended, or cuts it.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections and tunnels of all threads.
#[derive(Clone, Default)]
pub struct OpenWork {
    tasks: TaskTracker,
    cut: CancellationToken,
}

impl OpenWork {
    /// Starts one on this thread.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let cut = self.cut.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = task => {}
                () = cut.cancelled() => {}
            }
        });
    }

    /// The same for one that ends by itself when all is cut.
    pub fn track(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Waits until all is cut.
    pub async fn is_cut(&self) {
        self.cut.cancelled().await;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Waits until all have ended; none may be begun any more.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Ends them where they stand.
    pub fn cut(&self) {
        self.cut.cancel();
    }
}
