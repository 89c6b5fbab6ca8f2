//! The connections that are kept for later requests.
//!
//! Owns the idle connections, the last one used first, and those whose response is complete except for the end of its
//! body. Opens none. Used by `h1`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hyper::body::Incoming;

use super::conn::Conn;
use super::read_stats::ReadStats;

/// How long a finished request waits for the end of its response's body. Servers write that end with the last event or
/// right after it. Without this wait every second request of a closed loop would open a connection.
pub(super) const PROMPT_END: Duration = Duration::from_millis(1);
/// How long a connection waits for that end beside the requests.
pub(super) const LATE_END: Duration = Duration::from_millis(250);
/// Most connections that wait so.
pub(super) const MOST_LATE: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Pool {
    idle: Mutex<Vec<Conn>>,
    late: AtomicUsize,
}

impl Pool {
    /// An idle connection that the server has not closed, if there is one.
    pub(super) fn take(&self) -> Option<Conn> {
        std::iter::from_fn(|| self.idle().pop()).find_map(|mut conn| conn.is_quiet().then_some(conn))
    }

    /// Takes back a connection whose response was read to its end.
    pub(super) fn put(&self, mut conn: Conn) {
        if conn.settle() {
            self.idle().push(conn);
        }
    }

    /// Takes back a connection whose response is complete, but the end of its body was not read.
    pub(super) async fn put_unended(
        self: &Arc<Self>,
        mut conn: Conn,
        mut body: Incoming,
        stats: &Arc<ReadStats>,
    ) {
        if read_out(&mut conn, &mut body, stats, PROMPT_END).await == Ended::Yes {
            return self.put(conn);
        }
        if self.late.fetch_add(1, Ordering::Relaxed) >= MOST_LATE {
            self.late.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let (pool, stats) = (Arc::clone(self), Arc::clone(stats));
        tokio::spawn(async move {
            if read_out(&mut conn, &mut body, &stats, LATE_END).await == Ended::Yes {
                pool.put(conn);
            }
            pool.late.fetch_sub(1, Ordering::Relaxed);
        });
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Conn>> {
        self.idle.lock().expect("nothing panics while it holds this")
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Yes,
    No,
}

/// Reads `body` to its end, for at most `limit`.
async fn read_out(conn: &mut Conn, body: &mut Incoming, stats: &ReadStats, limit: Duration) -> Ended {
    let rest = async {
        loop {
            match conn.piece(body, stats).await {
                Ok(Some(_)) => {}
                Ok(None) => return Ended::Yes,
                Err(_) => return Ended::No,
            }
        }
    };
    tokio::time::timeout(limit, rest).await.unwrap_or(Ended::No)
}
