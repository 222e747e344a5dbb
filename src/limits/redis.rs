//! Rates in Redis: one number for each bucket, governor's theoretical arrival time, by Redis's own clock. So a key's limit
//! holds over all instances.

use std::num::NonZeroU32;
use std::sync::LazyLock;
use std::time::Duration;

use ::redis::{Script, ScriptInvocation};

use crate::bucket::{Rate, Taken};
use crate::redis::{Redis, RedisError};

/// Takes a weight where the bucket has room for it: arguments are the weight and what the whole bucket weighs, in
/// microseconds. Gives back whether it was taken, what is lacking until the bucket is full, and how long to wait.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local time = redis.call('TIME')
         local now = time[1] * 1000000 + time[2]
         local weight, whole = tonumber(ARGV[1]), tonumber(ARGV[2])
         local arrival = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
         local after = arrival + weight
         local wait = after - whole - now
         if wait > 0 then return {0, arrival - now, wait} end
         redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000) + 1000)
         return {1, after - now, 0}",
    )
});

/// Takes what was used beyond what had been taken, or gives back what was not, by the sign of the weight; at most so much
/// may then be lacking.
static CORRECT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local time = redis.call('TIME')
         local now = time[1] * 1000000 + time[2]
         local before = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
         local arrival = math.min(math.max(before + tonumber(ARGV[1]), now), now + tonumber(ARGV[2]))
         redis.call('SET', KEYS[1], string.format('%.0f', arrival), 'PX', math.ceil((arrival - now) / 1000) + 1000)
         return 0",
    )
});

/// No debt is longer.
const LONGEST_DEBT: Duration = Duration::from_hours(24);

/// What became of a wish, and what the bucket lacks until it is full.
pub(super) type Verdict = (Taken, Duration);

/// Takes `count` of the bucket `name`.
pub(super) async fn take_counted(
    redis: &Redis,
    name: &str,
    rate: Rate,
    count: NonZeroU32,
) -> Result<Verdict, RedisError> {
    let key = redis.key(format_args!("rate:{name}"));
    let mut taking = TAKE.prepare_invoke();
    taking.key(key).arg(micros(rate, u64::from(count.get()))).arg(micros(rate, u64::from(rate.burst())));
    let (taken, lacking, wait): (bool, u64, u64) = ask(redis, &taking).await?;
    let taken = if taken { Taken::Yes } else { Taken::Later(Duration::from_micros(wait)) };
    Ok((taken, Duration::from_micros(lacking)))
}

/// Corrects the bucket `name` by what was used more than was taken, or less.
pub(super) async fn correct_counted(redis: &Redis, name: &str, rate: Rate, count: i64) -> Result<(), RedisError> {
    let key = redis.key(format_args!("rate:{name}"));
    let weight = i64::try_from(micros(rate, count.unsigned_abs())).unwrap_or(i64::MAX);
    let mut correcting = CORRECT.prepare_invoke();
    correcting.key(key).arg(weight * count.signum()).arg(LONGEST_DEBT.as_micros());
    ask(redis, &correcting).await
}

async fn ask<T: ::redis::FromRedisValue>(redis: &Redis, script: &ScriptInvocation<'_>) -> Result<T, RedisError> {
    redis.script("rate", script).await
}

/// How long `count` take to come back; rounded up, so that no more than the rate is served.
fn micros(rate: Rate, count: u64) -> u64 {
    (count.saturating_mul(60_000_000)).div_ceil(u64::from(rate.per_minute()))
}
