//! Connections that are kept for the next request.
//!
//! Owns the idle ones, the last one used first, and those whose answer is complete but for the body's end.
//! Opens none. Used by `h1`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hyper::body::Incoming;

use super::conn::Conn;
use super::read_stats::ReadStats;

/// How long a finished request waits for the end of its answer's body. Servers write it with the last event or
/// right after it; without this wait every second request of a closed loop would open a connection.
pub(super) const PROMPT_END: Duration = Duration::from_millis(1);
/// How long a connection is kept for it beside the requests.
pub(super) const LATE_END: Duration = Duration::from_millis(250);
/// Most connections that are kept so.
pub(super) const MOST_LATE: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Pool {
    idle: Mutex<Vec<Conn>>,
    late: AtomicUsize,
}

impl Pool {
    /// An idle connection, where there is one that the server has not closed.
    pub(super) fn take(&self) -> Option<Conn> {
        std::iter::from_fn(|| self.idle().pop()).find_map(|mut conn| conn.is_quiet().then_some(conn))
    }

    /// Takes a connection back whose answer was read to its end.
    pub(super) fn put(&self, mut conn: Conn) {
        if conn.settle() {
            self.idle().push(conn);
        }
    }

    /// Takes a connection back whose answer is complete; the end of its body has not been read.
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
