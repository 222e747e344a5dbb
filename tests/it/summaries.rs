//! Long conversations over a WebSocket: what was said before the window reaches the provider in short, on either store.

use serde_json::{Value, json};

use crate::harness::{Http, Server, Socket, soon};

/// So many messages as they are; a summary for every two beyond them.
async fn server(on_postgres: bool) -> Server {
    let change = |config: &mut ish::config::Config| {
        config.chat.history_window = 4.try_into().unwrap();
        config.chat.summary_after = 2;
    };
    if on_postgres { Server::start_on_postgres(change).await } else { Server::start_with(change).await }
}

/// Once so many of the jobs have ended: their tasks, the latest first.
async fn summarised(http: &Http, count: usize) -> Vec<Value> {
    soon("summaries", async {
        loop {
            let tasks = http.get("/api/tasks?kind=ish.summarise&state=completed").await.json();
            let tasks = tasks["data"].as_array().unwrap().clone();
            if tasks.len() >= count {
                return tasks;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await
}

async fn ask(socket: &mut Socket, conversation: Option<&str>, content: &str) -> String {
    ask_model(socket, "mock", conversation, content).await
}

/// Past the cache, so that each question reaches its provider.
async fn ask_model(socket: &mut Socket, model: &str, conversation: Option<&str>, content: &str) -> String {
    let mut frame =
        json!({"type": "send", "id": content, "content": content, "model": model, "cache": {"mode": "off"}});
    if let Some(conversation) = conversation {
        frame["conversation"] = conversation.into();
    }
    let ack = socket.ask_with(frame).await;
    let answer = socket.answer(&ack.stream).await;
    assert_eq!(answer.ending(), "done");
    ack.conversation
}

fn contents(body: &Value) -> Vec<&str> {
    body["messages"].as_array().unwrap().iter().map(|message| message["content"].as_str().unwrap()).collect()
}

async fn what_was_said_before_the_window_is_sent_in_short(on_postgres: bool) {
    let server = server(on_postgres).await;
    let (http, mut socket) = (server.http(), server.socket().await);
    let conversation = ask(&mut socket, None, "I keep bees in Graz.").await;
    for question in ["Two?", "Three?"] {
        ask(&mut socket, Some(&conversation), question).await;
    }
    assert_eq!(server.upstream_calls(), 3, "six messages: nothing is due");
    assert_eq!(contents(&server.upstream_bodies()[2]).len(), 5, "and nothing is left out");
    ask(&mut socket, Some(&conversation), "Four?").await;

    let task = summarised(&http, 1).await.remove(0);
    assert_eq!((&task["result"]["messages"], &task["priority"]), (&json!(4), &json!("low")), "{task}");
    let asked = &server.upstream_bodies()[4];
    assert_eq!(asked["model"], "mock");
    let [told, given] = contents(asked).try_into().unwrap();
    assert!(told.starts_with("You keep the memory"), "{told}");
    assert!(given.contains("User: I keep bees in Graz.") && !given.contains("Three?"), "{given}");

    ask(&mut socket, Some(&conversation), "Five?").await;
    let bodies = server.upstream_bodies();
    let sent = contents(&bodies[5]);
    let exported = http.get(&format!("/api/sessions/{conversation}/export?format=json")).await.json();
    let summary = &exported["summaries"][0];
    assert_eq!(bodies[5]["messages"][0]["role"], "system");
    assert!(
        sent[0].starts_with("Summary of the conversation before")
            && sent[0].ends_with(summary["content"].as_str().unwrap())
    );
    assert_eq!((sent[1], sent[3], sent[5]), ("Three?", "Four?", "Five?"));
    let end = exported["messages"].as_array().unwrap().iter().find(|message| message["id"] == summary["message"]);
    assert_eq!(end.unwrap()["parent"], exported["messages"][2]["id"], "the answer to the second question");

    // The next one takes up the first.
    ask(&mut socket, Some(&conversation), "Six?").await;
    summarised(&http, 2).await;
    let bodies = server.upstream_bodies();
    let given = contents(bodies.last().unwrap())[1];
    assert!(given.starts_with(&format!("Summary so far:\n{}\n\n", summary["content"].as_str().unwrap())), "{given}");
    assert!(given.contains("Three?") && !given.contains("bees in Graz.\n"), "{given}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_before_the_window_is_sent_in_short_from_a_file() {
    what_was_said_before_the_window_is_sent_in_short(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_before_the_window_is_sent_in_short_from_postgres() {
    what_was_said_before_the_window_is_sent_in_short(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_says_what_it_is_in_a_summary_too() {
    let server = server(false).await;
    let (http, mut socket) = (server.http(), server.socket().await);
    let conversation = ask_model(&mut socket, "demo", None, "Question 1?").await;
    for number in 2..5 {
        ask_model(&mut socket, "demo", Some(&conversation), &format!("Question {number}?")).await;
    }
    summarised(&http, 1).await;
    let exported = http.get(&format!("/api/sessions/{conversation}/export?format=json")).await.json();
    let summary = &exported["summaries"][0];
    assert!(summary["content"].as_str().unwrap().contains("I am **demo**"), "{summary}");
    assert_eq!(summary["model"], "demo");
    server.stop().await;
}
