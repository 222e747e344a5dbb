//! What holds for every dialect at our door, once for all of them: a dialect's tests say how it asks and how its replies
//! are read.

use std::time::Duration;

use http::Method;
use loadtest::provider::answer::answer_to;
use loadtest::provider::{Behaviour, Entry, Fault, Outcome};
use serde_json::{Value, json};

use super::{Http, Reply, Server};
use crate::provider_faults::{CASES, Told, impatient};

/// One dialect, as its clients speak it.
pub struct Dialect {
    pub path: &'static str,
    /// A question whose answer comes whole.
    pub wish: fn(&str) -> Value,
    /// The same, streamed.
    pub streaming: fn(Value) -> Value,
    /// What stands in a stream once it has begun to tell.
    pub telling: &'static str,
    /// The text of a reply of either kind, which must be a good one.
    pub text: fn(&Reply) -> String,
    /// What a reply says but for its id, time and durations, of either kind alike.
    pub said: fn(&Reply) -> Value,
    /// Stops the test unless a reply is an error of this status and code of ours.
    pub assert_refused: fn(reply: &Reply, status: u16, code: &str, what: &str),
    /// Stops the test unless a stream ends with an error.
    pub assert_broken: fn(reply: &Reply, what: &str),
}

impl Dialect {
    /// Asks whole and for a stream, under prompts that differ.
    pub async fn both_ways(&self, http: &Http, body: impl Fn(&str) -> Value) -> [(String, Reply); 2] {
        let (whole, streamed) = ("Ask whole, please tell.".to_owned(), "Ask streamed, please tell.".to_owned());
        let first = http.post(self.path, &body(&whole)).await;
        let second = http.post(self.path, &(self.streaming)(body(&streamed))).await;
        [(whole, first), (streamed, second)]
    }

    /// Who leaves an answer, streamed or whole, ends its upstream call.
    pub async fn ends_with_its_caller(&self) {
        let server = Server::start().await;
        server.provider.hold_after(3);
        let leaving = (self.streaming)((self.wish)("Who leaves a stream?")).to_string();
        let mut streamed = server.http().open(Method::POST, self.path, leaving).await;
        streamed.until(self.telling).await;
        let whole = server.http().begin(self.path, &(self.wish)("Who leaves a whole answer?"));
        server.provider.wait_until_held(2).await;
        drop((streamed, whole));
        let gone = |log: &[Entry]| log.iter().filter(|entry| entry.outcome == Outcome::ClientGone).count();
        server.provider.wait_for("both calls given up", |log| gone(log) == 2).await;
        server.stop().await;
    }

    /// Each fault of the provider is told in the dialect's words: before the answer by a status, inside it at its end.
    pub async fn tells_every_fault(&self) {
        let server = Server::start_with(|config| {
            impatient(config);
            config.upstream.total_timeout = Duration::from_secs(4);
        })
        .await;
        // What these three do is the provider's side of the matter: tests/it/provider_faults.rs.
        let is_told =
            |fault: &Fault| !matches!(fault, Fault::SlowLoris { .. } | Fault::Huge { .. } | Fault::EmptyChoices);
        for case in CASES.iter().filter(|case| is_told(&case.fault)) {
            server.provider.set_behaviour(Behaviour::with_fault(case.fault));
            for (told, is_streamed) in [(case.plain, false), (case.streamed, true)] {
                let what = format!("{}, {}", case.name, if is_streamed { "streamed" } else { "whole" });
                let prompt = format!("Tell about {what}.");
                let wish = (self.wish)(&prompt);
                let body = if is_streamed { (self.streaming)(wish) } else { wish };
                let reply = server.http().post(self.path, &body).await;
                match told {
                    Told::Answer | Told::Kept => assert_eq!((self.text)(&reply), answer_to(&prompt), "{what}"),
                    Told::Status(status, code) => (self.assert_refused)(&reply, status, code, &what),
                    Told::Breaks(_) => (self.assert_broken)(&reply, &what),
                }
            }
        }
        server.stop().await;
    }

    /// However the provider writes an answer, the stream says what the whole says.
    pub async fn stream_adds_up(&self, tokens: usize, reasoning: usize, wire: &str) {
        let server = Server::start().await;
        let mut body = (self.wish)(&format!("Say much [[tokens={tokens} reasoning={reasoning} wire={wire}]] of it."));
        body["cache"] = json!({"mode": "off"});
        let whole = server.http().post(self.path, &body).await;
        let streamed = server.http().post(self.path, &(self.streaming)(body)).await;
        assert_eq!((self.said)(&streamed), (self.said)(&whole));
        server.stop().await;
    }
}
