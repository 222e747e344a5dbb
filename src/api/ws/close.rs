//! Why a socket is closed, in docs/websocket.md's codes.

use axum::extract::ws::CloseFrame;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    Bye,
    GoingAway,
    /// RFC 6455 was broken.
    Wire,
    Binary,
    /// The peer went away without a word; nobody is told.
    Lost,
    NotText,
    TooLarge,
    TryLater,
    Protocol(&'static str),
    Unauthorised,
    KeyEnded(&'static str),
    Slow(&'static str),
    TooMany(&'static str),
}

impl Close {
    pub(super) const LOGIN_ENDED: Self = Self::KeyEnded("the login has ended");
    pub(super) const SILENT: Self = Self::Slow("no answer to two pings");
    pub(super) const UNREAD: Self = Self::Slow("what was sent is not read");
    pub(super) const NO_CREDIT: Self = Self::Slow("no credit was given");

    /// What a failed read means. The library's own error is behind axum's, so its words are all there is.
    pub(super) fn of_read(error: &axum::Error) -> Self {
        let text = error.to_string();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if says(&["Control frame"]) {
            Self::Wire
        } else if says(&["too long", "too big", "Space limit"]) {
            Self::TooLarge
        } else if says(&["without closing handshake", "reset", "Broken pipe", "closed connection"]) {
            Self::Lost
        } else if says(&["UTF-8", "utf-8"]) {
            Self::NotText
        } else {
            Self::Wire
        }
    }

    fn told(self) -> (u16, &'static str) {
        match self {
            Self::Bye => (1000, ""),
            Self::GoingAway => (1001, "the server stops"),
            Self::Wire => (1002, "not a valid WebSocket frame"),
            Self::Binary => (1003, "frames are JSON text"),
            Self::Lost => (1006, ""),
            Self::NotText => (1007, "text is UTF-8"),
            Self::TooLarge => (1009, "the frame is larger than limits.frame_bytes"),
            Self::TryLater => (1013, "the store does not answer"),
            Self::Protocol(reason) => (4400, reason),
            Self::Unauthorised => (4401, "no or unknown key"),
            Self::KeyEnded(reason) => (4403, reason),
            Self::Slow(reason) => (4408, reason),
            Self::TooMany(reason) => (4429, reason),
        }
    }

    /// The number, for the metric.
    pub(super) fn code(self) -> u16 {
        self.told().0
    }

    pub(super) fn frame(self) -> CloseFrame {
        let (code, reason) = self.told();
        CloseFrame { code, reason: reason.into() }
    }
}
