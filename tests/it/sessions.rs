//! Sessions over REST: renamed, searched, listed in pages and by fields. What the store promises by itself is tested
//! beside it.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Http, Process, Reply, Server};

impl Http {
    async fn patch(&self, path: &str, body: &Value) -> Reply {
        self.send(Method::PATCH, path, body.to_string()).await
    }

    /// A question with its whole answer, and the session it is in.
    async fn asked(&self, message: &str) -> String {
        let reply = self.post("/api/chat", &json!({"message": message})).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["session"].as_str().unwrap().to_owned()
    }
}

fn ids(page: &Value) -> Vec<&str> {
    page["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect()
}

/// The sentence of a refusal in problem+json.
fn problem(reply: &Reply, status: u16) -> String {
    assert_eq!(
        (reply.status.as_u16(), reply.header("content-type")),
        (status, "application/problem+json"),
        "{reply:?}"
    );
    reply.json()["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_session_is_renamed() {
    let server = Server::start().await;
    let http = server.http();
    let session = http.asked("Why is the title of this session long?").await;
    let path = format!("/api/sessions/{session}");
    let renamed = http.patch(&path, &json!({"title": "  Short \n title "})).await;
    assert_eq!((renamed.status.as_u16(), &renamed.json()["title"]), (200, &json!("Short title")));
    assert_eq!(http.get(&path).await.json()["title"], "Short title");
    assert_eq!(problem(&http.patch(&path, &json!({"title": " "})).await, 400), "`title` takes 1 to 200 characters");
    problem(&http.patch(&path, &json!({"title": "x".repeat(201)})).await, 400);
    problem(&http.patch(&path, &json!({"name": "x"})).await, 400);
    let nowhere = "/api/sessions/01890000-0000-7000-8000-000000000000";
    problem(&http.patch(nowhere, &json!({"title": "x"})).await, 404);
    server.stop().await;
}

#[tokio::test]
async fn a_search_finds_sessions_of_its_own_tenant() {
    let server = Server::start_with_keys().await;
    let ours = server.http().with_key(&server.new_key("ours").await);
    let theirs = server.http().with_key(&server.new_key("theirs").await);
    let session = ours.asked("Where do narwhals live?").await;
    theirs.asked("What do whales eat?").await;
    let found = ours.get("/api/sessions?q=narwh").await.json();
    assert_eq!(ids(&found), [session.as_str()]);
    let hit = found["data"][0]["match"]["snippet"].as_array().unwrap().iter().find(|part| part["hit"] == true).unwrap();
    assert_eq!(hit["text"], "narwhals");
    assert_eq!(ids(&theirs.get("/api/sessions?q=narwhals").await.json()), [] as [&str; 0]);
    for strange in ["%22", "*", "a%20AND", "NEAR(", "%00", "text:*", "%F0%9F%90%8B", ""] {
        let reply = ours.get(&format!("/api/sessions?q={strange}")).await;
        assert_eq!(reply.status, 200, "{strange}: {reply:?}");
    }
    let much = "q=".to_owned() + &(0..13).map(|number| format!("w{number}+")).collect::<Vec<_>>().concat();
    let fault = problem(&ours.get(&format!("/api/sessions?{much}")).await, 400);
    assert!(fault.contains("12 at most"), "{fault}");
    let title = theirs.patch(&format!("/api/sessions/{session}"), &json!({"title": "taken"})).await;
    problem(&title, 404);
    let fault = problem(&ours.get("/api/sessions?q=a&cursor=1.x").await, 400);
    assert!(fault.contains("use `offset`"), "{fault}");
    server.stop().await;
}

#[tokio::test]
async fn pages_have_bounds_and_fields_can_be_chosen() {
    let server = Server::start().await;
    let http = server.http();
    for number in 0..5 {
        http.post("/api/sessions", &json!({"title": format!("number {number}")})).await;
    }
    let all = http.get("/api/sessions").await.json();
    assert_eq!((ids(&all).len(), &all["next_cursor"], &all["next_offset"]), (5, &Value::Null, &Value::Null));
    let first = http.get("/api/sessions?limit=2").await.json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = http.get(&format!("/api/sessions?limit=2&cursor={cursor}")).await.json();
    let counted = http.get("/api/sessions?limit=2&offset=2").await.json();
    assert_eq!(
        (ids(&first), ids(&second), ids(&counted)),
        (ids(&all)[..2].to_vec(), ids(&all)[2..4].to_vec(), ids(&second))
    );
    for (query, said) in [
        ("limit=0", "`limit` is 0; it takes 1 to 200"),
        ("limit=201", "1 to 200"),
        ("offset=100001", "a cursor leads further"),
        ("cursor=nonsense", "none that this list gave"),
        ("cursor=1.01890000-0000-7000-8000-000000000000&offset=1", "give one"),
        ("fields=id,colour", "\"colour\"; there are id, title, model, created_at, updated_at"),
    ] {
        let fault = problem(&http.get(&format!("/api/sessions?{query}")).await, 400);
        assert!(fault.contains(said), "{query}: {fault}");
    }
    let chosen = http.get("/api/sessions?fields=title,id&limit=1").await.json();
    assert_eq!(chosen["data"][0].as_object().unwrap().keys().collect::<Vec<_>>(), ["id", "title"]);
    let session = http.asked("What is a field?").await;
    let read = http.get(&format!("/api/sessions/{session}?fields=messages")).await.json();
    assert_eq!(read, json!({"messages": 2}));
    let messages = format!("/api/sessions/{session}/messages");
    let chosen = http.get(&format!("{messages}?fields=role,state")).await.json();
    assert_eq!(
        chosen["data"],
        json!([{"role": "user", "state": "complete"}, {"role": "assistant", "state": "complete"}])
    );
    let fault = problem(&http.get(&format!("{messages}?fields=text")).await, 400);
    assert!(fault.contains("content"), "{fault}");
    problem(&http.get(&format!("{messages}?limit=0")).await, 400);
    let newest = http.get(&format!("{messages}?limit=1")).await.json();
    assert_eq!(newest["data"][0]["role"], "assistant");
    for way in ["cursor", "before"] {
        let older =
            http.get(&format!("{messages}?limit=1&{way}={}", newest["next_cursor"].as_str().unwrap())).await.json();
        assert_eq!(older["data"][0]["role"], "user");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_question_is_edited_and_the_branch_is_what_the_model_sees() {
    let server = Server::start().await;
    let (http, mut socket) = (server.http(), server.socket().await);
    let (first, _) = socket.ask_whole("a", "Which planet is largest?").await;
    let id = &first.conversation;
    let follow = json!({"type": "send", "id": "b", "conversation": id, "content": "And how many moons has it?"});
    let second = socket.ask_with(follow).await;
    socket.answer(&second.stream).await;
    let edit = json!({"type": "send", "id": "c", "conversation": id, "parent_id": first.reply, "content": "And how old is it?"});
    let edited = socket.ask_with(edit).await;
    socket.answer(&edited.stream).await;
    let sent = server.upstream_bodies().pop().unwrap();
    let said: Vec<&str> =
        sent["messages"].as_array().unwrap().iter().map(|turn| turn["content"].as_str().unwrap()).collect();
    assert_eq!((said.len(), said[0], said[2]), (3, "Which planet is largest?", "And how old is it?"));

    let messages = format!("/api/sessions/{id}/messages");
    let branch = http.get(&format!("{messages}?leaf=selected")).await.json();
    assert_eq!(ids(&branch), [&first.message, &first.reply, &edited.message, &edited.reply]);
    assert_eq!(branch["data"][2]["siblings"], json!([second.message, edited.message]));
    let other = http.get(&format!("{messages}?leaf={}", second.reply)).await.json();
    assert_eq!(ids(&other), [&first.message, &first.reply, &second.message, &second.reply]);
    let session = format!("/api/sessions/{id}");
    let selected = http.patch(&session, &json!({"leaf": second.message})).await.json();
    assert_eq!(selected["leaf"], json!(second.reply));
    let anew = json!({"type": "send", "id": "d", "conversation": id, "parent_id": null, "content": "Which planet is smallest?"});
    let anew = socket.ask_with(anew).await;
    socket.answer(&anew.stream).await;
    assert_eq!(ids(&http.get(&format!("{messages}?leaf=selected")).await.json()), [&anew.message, &anew.reply]);
    assert_eq!(ids(&http.get(&messages).await.json()).len(), 8, "without a leaf: all branches");

    for (frame, code) in [
        (json!({"type": "send", "id": "e", "parent_id": first.reply, "content": "x"}), "invalid_request_error"),
        (
            json!({"type": "send", "id": "f", "conversation": id, "parent_id": first.message, "content": "x"}),
            "conflict",
        ),
        (json!({"type": "send", "id": "g", "conversation": id, "parent_id": id, "content": "x"}), "not_found"),
    ] {
        socket.say(frame).await;
        assert_eq!(socket.hear_type("error").await["code"], code);
    }
    problem(&http.get(&format!("{messages}?leaf={id}")).await, 404);
    problem(&http.get(&format!("{messages}?leaf=newest")).await, 400);
    problem(&http.patch(&session, &json!({"leaf": id})).await, 404);
    problem(&http.patch(&session, &json!({})).await, 400);
    let posted = json!({"content": "Over REST too?", "parent_id": first.reply});
    let posted = http.post(&messages, &posted).await.json();
    assert_eq!(posted["question"]["parent"], json!(first.reply));
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn a_session_is_exported() {
    let server = Server::start_with_keys().await;
    let ours = server.http().with_key(&server.new_key("ours").await);
    let theirs = server.http().with_key(&server.new_key("theirs").await);
    let session = ours.asked("What is an export?").await;
    let path = format!("/api/sessions/{session}/export");
    let json = ours.get(&path).await;
    assert_eq!(json.header("content-type"), "application/json");
    assert_eq!(json.header("content-disposition"), "attachment; filename=\"what-is-an-export.json\"");
    let json = json.json();
    assert_eq!(
        (&json["format"], &json["version"], &json["session"]["id"]),
        (&json!("ish.session"), &json!(1), &json!(session))
    );
    let stored = ours.get(&format!("/api/sessions/{session}/messages")).await.json();
    assert_eq!(json["messages"], stored["data"]);
    let markdown = ours.get(&format!("{path}?format=markdown")).await;
    assert_eq!(markdown.header("content-type"), "text/markdown; charset=utf-8");
    let text = String::from_utf8(markdown.body.to_vec()).unwrap();
    assert!(text.starts_with("# What is an export?\n\n## You\n\nWhat is an export?\n\n## Answer of mock\n"), "{text}");
    assert_eq!(problem(&ours.get(&format!("{path}?format=pdf")).await, 400), "`format` takes json and markdown");
    problem(&theirs.get(&path).await, 404);
    server.stop().await;
}

#[tokio::test]
async fn the_command_line_works_beside_a_server_and_without_one() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody is asked there: the built-in model answers.
    let mut process = Process::start(folder.path(), "http://127.0.0.1:9/v1", &[]).await;
    let http = Http::new(process.address);
    let ask = |message: &str, session: Option<&str>| {
        let (http, body) = (http.clone(), json!({"message": message, "session": session, "model": "demo"}));
        async move { http.post("/api/chat", &body).await.json()["session"].as_str().unwrap().to_owned() }
    };
    let kept = ask("Where do narwhals live?", None).await;
    ask("And what do they eat?", Some(&kept)).await;
    let other = ask("Why is the sky blue?", None).await;
    let data_dir = folder.path().to_str().unwrap();
    let verb = async |arguments: &[&str]| {
        let variables = [("ISH_DATA_DIR", data_dir), ("ISH_LOG", "error")];
        Process::verb(&[&["sessions"], arguments].concat(), &variables).await
    };
    let lines = |text: String| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();

    assert_eq!(verb(&["rename", &kept, "Whales"]).await.unwrap(), format!("renamed {kept} to Whales\n"));
    let listed = lines(verb(&["list", "--json"]).await.unwrap());
    assert_eq!(listed.iter().map(|row| row["id"].as_str().unwrap()).collect::<Vec<_>>(), [&other, &kept]);
    assert_eq!(listed[1]["title"], "Whales");
    assert!(verb(&["list"]).await.unwrap().contains("Whales"));
    assert_eq!(lines(verb(&["list", "--json", "--limit", "1"]).await.unwrap()).len(), 1);
    assert!(verb(&["search", "narwh"]).await.unwrap().contains("[narwhals]"));
    let beside = verb(&["export", &kept]).await.unwrap();
    assert_eq!(beside.as_bytes(), http.get(&format!("/api/sessions/{kept}/export")).await.body);
    let stranger = verb(&["show", "01890000-0000-7000-8000-000000000000"]).await.unwrap_err();
    assert!(stranger.contains("no such session"), "{stranger}");
    let stranger = verb(&["export", "01890000-0000-7000-8000-000000000000"]).await.unwrap_err();
    assert!(stranger.contains("no such session"), "{stranger}");

    process.terminate();
    process.end().await;
    assert_eq!(lines(verb(&["list", "--json"]).await.unwrap()), listed);
    let found = lines(verb(&["search", "--json", "narwhals"]).await.unwrap());
    assert_eq!((found.len(), &found[0]["id"]), (1, &json!(kept)));
    let shown = lines(verb(&["show", &kept, "--json"]).await.unwrap());
    let said: Vec<_> = shown.iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(said, ["user", "assistant", "user", "assistant"]);
    assert!(verb(&["show", &kept]).await.unwrap().starts_with("Whales\n\n-- user "));
    assert_eq!(verb(&["export", &kept]).await.unwrap(), beside, "the same file");
    let file = folder.path().join("whales.md");
    verb(&["export", &kept, "--format", "markdown", "--output", file.to_str().unwrap()]).await.unwrap();
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("# Whales\n\n## You\n\nWhere do narwhals live?\n"));
    let nowhere = folder.path().join("nothing.md");
    verb(&["export", "01890000-0000-7000-8000-000000000000", "--output", nowhere.to_str().unwrap()]).await.unwrap_err();
    assert!(!nowhere.exists() && !folder.path().join("nothing.md.part").exists(), "no file of a fault");
    verb(&["delete", &kept]).await.unwrap();
    assert_eq!(lines(verb(&["list", "--json"]).await.unwrap()).len(), 1);
}

#[tokio::test]
async fn what_is_sent_of_a_long_conversation_begins_with_a_question() {
    let server = Server::start().await;
    let mut socket = server.socket().await;
    let (ack, _) = socket.ask_whole("q0", "What is the first colour of a rainbow?").await;
    for number in 1..=11 {
        let next = json!({"type": "send", "id": format!("q{number}"), "conversation": ack.conversation, "content": format!("And number {number} of them?")});
        let ack = socket.ask_with(next).await;
        socket.answer(&ack.stream).await;
    }
    for body in server.upstream_bodies() {
        let turns = body["messages"].as_array().unwrap();
        let roles: Vec<&str> = turns.iter().map(|turn| turn["role"].as_str().unwrap()).collect();
        assert_eq!((roles[0], roles[roles.len() - 1]), ("user", "user"), "{roles:?}");
        assert!(roles.windows(2).all(|pair| pair[0] != pair[1]), "{roles:?}");
    }
    assert!(server.upstream_bodies().last().unwrap()["messages"].as_array().unwrap().len() >= 19);
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn whoever_answered_last_answers_next() {
    let server = Server::start().await;
    let mut socket = server.socket().await;
    let first = json!({"type": "send", "id": "a", "content": "What is a keel?", "model": "demo"});
    let first = socket.ask_with(first).await;
    socket.answer(&first.stream).await;
    let next =
        json!({"type": "send", "id": "b", "content": "And what is a rudder?", "conversation": first.conversation});
    let again = json!({"type": "regenerate", "id": "c", "message": first.reply, "params": {"temperature": 0.3}});
    for wish in [next, again] {
        let ack = socket.ask_with(wish.clone()).await;
        assert_eq!(socket.answer(&ack.stream).await.end.unwrap()["model"], "demo", "{wish}");
    }
    let third = server
        .http()
        .post(&format!("/api/sessions/{}/messages", first.conversation), &json!({"content": "And a mast?"}))
        .await;
    assert_eq!(third.json()["answer"]["model"], "demo");
    let fourth =
        server.http().post("/api/chat", &json!({"message": "And a sail?", "session": first.conversation})).await;
    assert_eq!(fourth.json()["model"], "demo");
    assert_eq!(server.upstream_calls(), 0, "the default model is another provider's");
    drop(socket);
    server.stop().await;
}
