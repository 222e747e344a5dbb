//! A client's connection, with a bound on the bytes that it may send towards one WebSocket message. The library below says
//! nothing of a message's fragments until the last has come, so that endless ones, be they empty, are seen here alone.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use super::door::{Door, Guest};
use super::ws::Heartbeat;

/// What has come since the last message, and how much may; without a bound while the connection speaks HTTP.
#[derive(Debug)]
pub(super) struct Inbound {
    unfinished_bytes: AtomicU64,
    most_bytes: AtomicU64,
}

impl Default for Inbound {
    fn default() -> Self {
        Self { unfinished_bytes: AtomicU64::new(0), most_bytes: AtomicU64::new(u64::MAX) }
    }
}

impl Inbound {
    /// From now on a message may take so many bytes, the heads of its fragments included.
    pub(super) fn bound(&self, most_bytes: u64) {
        self.unfinished_bytes.store(0, Ordering::Relaxed);
        self.most_bytes.store(most_bytes, Ordering::Relaxed);
    }

    /// Whether the connection has become a socket.
    fn is_bound(&self) -> bool {
        self.most_bytes.load(Ordering::Relaxed) != u64::MAX
    }

    /// A message has come to its end.
    pub(super) fn finished(&self) {
        self.unfinished_bytes.store(0, Ordering::Relaxed);
    }

    /// A ping or pong of this payload has come, maybe between two fragments.
    pub(super) fn passed(&self, payload_bytes: usize) {
        // The head of a masked control frame.
        let bytes = payload_bytes as u64 + 6;
        let take = |unfinished: u64| Some(unfinished.saturating_sub(bytes));
        let _ = self.unfinished_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
    }

    fn came(&self, bytes: usize) -> io::Result<()> {
        let before = self.unfinished_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if before + bytes as u64 > self.most_bytes.load(Ordering::Relaxed) {
            return Err(io::Error::other("the message is too long on the wire"));
        }
        Ok(())
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    pub(super) address: SocketAddr,
    pub(super) inbound: Arc<Inbound>,
}

impl Connected<IncomingStream<'_, Wires>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Wires>) -> Self {
        Self { address: *stream.remote_addr(), inbound: Arc::clone(&stream.io().inbound) }
    }
}

/// The listener of such connections, as long as the door is open.
pub struct Wires {
    address: SocketAddr,
    /// `None`: closed.
    listener: Option<TcpListener>,
    /// Those who had connected by then, and were not let in yet.
    last: VecDeque<(TcpStream, SocketAddr)>,
    door: Door,
    one_write: Duration,
}

impl Wires {
    /// Those of `listener`. A peer that takes nothing for as long as a socket's may is one that has gone.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn of(listener: TcpListener, door: Door, heartbeat: Heartbeat) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (listener, last) = (Some(listener), VecDeque::new());
        Ok(Self { address, listener, last, door, one_write: heartbeat.one_write() })
    }

    /// From here on whoever connects is refused by the system, and goes elsewhere. Who has connected may have asked
    /// already: he is let in.
    fn close(&mut self) {
        let Some(listener) = self.listener.take().and_then(|listener| listener.into_std().ok()) else { return };
        loop {
            match listener.accept() {
                Ok((socket, address)) => {
                    let socket = socket.set_nonblocking(true).and_then(|()| TcpStream::from_std(socket));
                    self.last.extend(socket.ok().map(|socket| (socket, address)));
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {
                }
                Err(_) => return,
            }
        }
    }

    async fn next(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            if let Some(last) = self.last.pop_front() {
                return last;
            }
            let Some(listener) = &mut self.listener else { return std::future::pending().await };
            tokio::select! {
                come = Listener::accept(listener) => return come,
                () = self.door.closed() => self.close(),
            }
        }
    }
}

impl Listener for Wires {
    type Io = Wire;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Wire, SocketAddr) {
        let (socket, address) = self.next().await;
        // Without it, the last small write of a reply waits for the client's delayed ACK: 44 ms on keep-alive streams.
        let _ = socket.set_nodelay(true);
        // The body of a reply is not asked for more while its reader takes nothing, so that no timer of ours would see it:
        // the system ends the connection, and with it go the upstream call and its places.
        let _ = SockRef::from(&socket).set_tcp_user_timeout(Some(self.one_write));
        (Wire { socket, inbound: Arc::default(), guest: Some(self.door.enter()) }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// One connection.
pub struct Wire {
    socket: TcpStream,
    inbound: Arc<Inbound>,
    /// `None`: a socket, which is told by itself that the server stops.
    guest: Option<Guest>,
}

impl Wire {
    fn passes(&mut self) {
        if self.inbound.is_bound() {
            self.guest = None;
        }
        if let Some(guest) = &self.guest {
            guest.speaks();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        self.passes();
        Poll::Ready(self.inbound.came(buf.filled().len() - before))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.passes();
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.passes();
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_no_message_is_bounded_and_what_is_between_is_not() {
        let inbound = Inbound::default();
        inbound.came(1 << 40).unwrap();
        inbound.bound(100);
        inbound.came(100).unwrap();
        inbound.finished();
        for _ in 0..1_000 {
            inbound.came(8).unwrap();
            inbound.passed(2);
        }
        inbound.came(99).unwrap();
        inbound.came(1).unwrap();
        inbound.came(1).unwrap_err();
    }
}
