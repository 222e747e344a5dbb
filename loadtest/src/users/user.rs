//! One user: comes, says hello, and asks at moments that nothing else moves.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use loadtest::generator::{self, Chance};
use serde_json::json;
use tokio::time::{sleep_until, timeout};

use super::Run;
use super::answer::{Answer, Heard};
use crate::socket::{Caller, Socket};

/// How long an answer may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct User<'r> {
    run: &'r Run,
    number: u64,
    asked: u64,
    socket: Option<Socket>,
    conversation: Option<String>,
}

impl<'r> User<'r> {
    pub(super) fn new(run: &'r Run, number: u64) -> Self {
        Self { run, number, asked: 0, socket: None, conversation: None }
    }

    /// From the moment that he joins until the run is over.
    pub(super) async fn live(mut self) {
        let run = self.run;
        let mut moments = Moments::of(run, self.number);
        sleep_until(moments.joins.into()).await;
        // A socket that cannot be opened fails the first question.
        let _ = self.opened().await;
        while let Some(due) = moments.next(run) {
            self.wait_until(due).await;
            let asked = timeout(PATIENCE, self.ask(due)).await;
            let answer = asked.unwrap_or_else(|_| Err("no end in time".to_owned()));
            if answer.is_err() {
                self.hang_up();
                self.conversation = None;
            }
            run.record(due, answer);
        }
    }

    /// Pings are answered meanwhile.
    async fn wait_until(&mut self, due: Instant) {
        let lost = async {
            match &mut self.socket {
                // Nothing is said unasked that would matter.
                Some(socket) => while socket.hear().await.is_ok() {},
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleep_until(due.into()) => return,
            () = lost => {}
        }
        self.run.tally.borrow_mut().sockets_lost += 1;
        self.hang_up();
        sleep_until(due.into()).await;
    }

    async fn ask(&mut self, due: Instant) -> Result<Heard, String> {
        let id = format!("{}-{}-{}", self.run.salt, self.number, self.asked);
        let content = generator::unique(self.run.salt, self.number * 1_000 + self.asked);
        self.asked += 1;
        let mut send = json!({ "type": "send", "id": id, "content": content, "model": self.run.model });
        if let Some(conversation) = &self.conversation {
            send["conversation"] = conversation.as_str().into();
        }
        let failed = |error: anyhow::Error| error.to_string();
        let mut answer = Answer::to(id);
        let socket = self.opened().await.map_err(failed)?;
        socket.say(&send).await.map_err(failed)?;
        loop {
            let frame = socket.hear().await.map_err(failed)?;
            if let Some(heard) = answer.take(&frame, due.elapsed())? {
                self.conversation = Some(heard.conversation.clone());
                return Ok(heard);
            }
        }
    }

    async fn opened(&mut self) -> anyhow::Result<&mut Socket> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => {
                let targets = &self.run.targets;
                let target = &targets[self.number as usize % targets.len()];
                let socket = Socket::open(target, &self.caller()).await?;
                self.run.sockets_open.set(self.run.sockets_open.get() + 1);
                socket
            }
        };
        Ok(self.socket.insert(socket))
    }

    fn hang_up(&mut self) {
        if self.socket.take().is_some() {
            self.run.sockets_open.set(self.run.sockets_open.get() - 1);
        }
    }

    /// Where there are keys, each is a user of his own; each comes from a loopback address of his own, as people do: limits by
    /// address are left as they are.
    fn caller(&self) -> Caller {
        let address = Ipv4Addr::new(127, 1, (self.number / 250) as u8, (self.number % 250 + 1) as u8);
        let user = self.run.key.as_ref().map(|_| format!("load/{}", self.number));
        Caller { address: Some(address), key: self.run.key.clone(), user }
    }
}

/// When a user joins, and when he asks: after half of the thinking time to one and a half, whatever becomes of his questions.
struct Moments {
    chance: Chance,
    joins: Instant,
    next: Instant,
}

impl Moments {
    fn of(run: &Run, number: u64) -> Self {
        let mut chance = Chance::new(run.salt ^ (number + 1).wrapping_mul(0x9E37_79B9));
        let joins = run.started + run.ramp.mul_f64(number as f64 / run.users as f64);
        // Somewhere in a thinking time, so that questions are spread from the first on.
        let next = joins + run.think.mul_f64(chance.share());
        Self { chance, joins, next }
    }

    fn next(&mut self, run: &Run) -> Option<Instant> {
        let due = self.next;
        self.next += run.think.mul_f64(0.5 + self.chance.share());
        (due < run.until).then_some(due)
    }
}
