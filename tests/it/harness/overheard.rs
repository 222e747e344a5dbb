//! A line to a Postgres that listens: which messages the server sends there, transaction by transaction. A message that is
//! answered before the next one leaves is one way there and back.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What a client asks before its first message, to be answered with one byte.
const SSL_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();

/// One transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// Its statements' texts.
    pub statements: Vec<String>,
    /// How often an answer was waited for.
    pub ways: usize,
}

/// The line. Dropping it ends it for those who come later.
pub struct Overheard {
    pub address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    accepting: JoinHandle<()>,
}

impl Overheard {
    /// To `server`, a host and a port.
    pub async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, heard) = (listener.local_addr().unwrap(), Arc::<Mutex<_>>::default());
        let kept = Arc::clone(&heard);
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(&server).await.unwrap();
                let ((from_near, mut to_near), (mut from_far, to_far)) = (near.into_split(), far.into_split());
                tokio::spawn(async move { tokio::io::copy(&mut from_far, &mut to_near).await });
                tokio::spawn(listen(from_near, to_far, Arc::clone(&kept)));
            }
        });
        Self { address, heard, accepting }
    }

    /// The transactions that have ended since it was last asked.
    pub fn take(&self) -> Vec<Heard> {
        std::mem::take(&mut *self.heard.lock().unwrap())
    }
}

impl Drop for Overheard {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Carries a client's messages on, until either side has gone.
async fn listen(mut near: OwnedReadHalf, mut far: OwnedWriteHalf, heard: Arc<Mutex<Vec<Heard>>>) -> Option<()> {
    // The first message, and the wish for TLS before it, have no kind.
    loop {
        let first = body(&mut near).await?;
        far.write_all(&framed(&first)).await.ok()?;
        if first != SSL_REQUEST {
            break;
        }
    }
    let mut now = Heard::default();
    loop {
        let kind = near.read_u8().await.ok()?;
        let content = body(&mut near).await?;
        note(&mut now, kind, &content, &heard);
        far.write_all(&[&[kind], &*framed(&content)].concat()).await.ok()?;
    }
}

/// A message's content, behind its length.
async fn body(near: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let length = near.read_u32().await.ok()?;
    let mut content = vec![0; length as usize - 4];
    near.read_exact(&mut content).await.ok()?;
    Some(content)
}

fn framed(content: &[u8]) -> Vec<u8> {
    [&u32::try_from(content.len() + 4).unwrap().to_be_bytes(), content].concat()
}

fn note(now: &mut Heard, kind: u8, content: &[u8], heard: &Mutex<Vec<Heard>>) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap()).into_owned();
    match kind {
        b'Q' => {
            let asked = text(content);
            let is_over = !asked.contains("BEGIN") && now.statements.is_empty()
                || asked.ends_with("COMMIT")
                || asked == "ROLLBACK";
            now.statements.push(asked);
            now.ways += 1;
            if is_over {
                heard.lock().unwrap().push(std::mem::take(now));
            }
        }
        // Its name comes first, and is empty.
        b'P' => now.statements.push(text(&content[1..])),
        // Outside of a transaction: the pool asks whether the connection lives.
        b'S' if !now.statements.is_empty() => now.ways += 1,
        _ => {}
    }
}
