//! Wake-ups over Redis: a task that one process enqueues is looked for by the others at once. Without, and when one is lost,
//! they look by themselves within a second.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Queue;
use crate::changes::{Ear, tell};
use crate::redis::Redis;

/// What processes tell each other about.
const TASKS: &str = "tasks";

impl Queue {
    /// Tells other processes of tasks that may have come, and hears of theirs, until `stop`.
    pub fn share(&self, redis: &Redis, tasks: &TaskTracker, stop: &CancellationToken) {
        let ear = Ear::of(TASKS);
        tasks.spawn(ear.clone().listen(redis.clone(), stop.clone()));
        let (queue, until) = (self.clone(), stop.clone());
        tasks.spawn(async move {
            while until.run_until_cancelled(ear.heard()).await.is_some() {
                queue.inner.wake.notify_one();
            }
        });
        let (queue, redis, until) = (self.clone(), redis.clone(), stop.clone());
        tasks.spawn(async move {
            while until.run_until_cancelled(queue.inner.tell.notified()).await.is_some() {
                tell(&redis, TASKS).await;
            }
        });
    }
}
