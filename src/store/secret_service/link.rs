//! The connection to the session bus: making it, and calling over it.
//!
//! The calling thread drives the connection by a runtime of its own, since a
//! second thread costs more than a round trip. Must not know what is said.

use std::future::Future;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use zbus::address::Transport;
use zbus::address::transport::UnixSocket;
use zbus::connection::Builder;
use zbus::zvariant::{self, DynamicType};
use zbus::{Address, Connection, Message};

use super::SecretServiceError;

pub(super) type Result<T> = std::result::Result<T, SecretServiceError>;

/// A connection to the session bus, each call on which is bounded in time.
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) bound: Duration,
}

/// Makes the runtime and the connection that it drives.
pub(super) fn connect(bound: Duration) -> Result<(Runtime, Link)> {
    let runtime = runtime().map_err(|e| SecretServiceError::Other(e.to_string()))?;
    let connection = runtime.block_on(within(bound, async {
        let address = Address::session()?;
        let builder = match stream(&address).await {
            Some(stream) => Builder::unix_stream(stream),
            None => Builder::address(address)?,
        };
        builder.method_timeout(bound).build().await
    }));
    match connection {
        Some(Ok(connection)) => Ok((runtime, Link { connection, bound })),
        failed => {
            // A thread of it may be stuck in a connect(2).
            runtime.shutdown_background();
            Err(match failed {
                None => SecretServiceError::stalled(bound),
                Some(_) => SecretServiceError::Absent,
            })
        }
    }
}

fn runtime() -> io::Result<Runtime> {
    // Without these descriptors the runtime would panic, not fail.
    drop((io::pipe()?, io::pipe()?, io::pipe()?));
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
}

/// The socket of the bus where its address is a path and it takes us at once;
/// zbus connects by a thread, which costs more than the rest of the handshake.
async fn stream(address: &Address) -> Option<UnixStream> {
    let Transport::Unix(unix) = address.transport() else {
        return None;
    };
    let UnixSocket::File(path) = unix.path() else {
        return None;
    };
    UnixStream::connect(Path::new(path)).await.ok()
}

impl Link {
    /// Calls one method of the service and reads its answer.
    pub(super) async fn call<B, A>(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        body: &B,
    ) -> Result<A>
    where
        B: Serialize + DynamicType,
        A: DeserializeOwned + zvariant::Type,
    {
        let answer = self.message(path, interface, method, body).await?;
        self.sorted(answer.body().deserialize())
    }

    /// Calls one method of the service; its answer as it is.
    pub(super) async fn message<B>(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        body: &B,
    ) -> Result<Message>
    where
        B: Serialize + DynamicType,
    {
        let answer = self
            .connection
            .call_method(Some(super::BUS_NAME), path, Some(interface), method, body)
            .await;
        self.sorted(answer)
    }

    pub(super) fn sorted<T>(&self, result: zbus::Result<T>) -> Result<T> {
        result.map_err(|e| SecretServiceError::of_bus(e, self.bound))
    }
}

/// The output of `work`, or `None` after `limit`.
pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, work).await.ok()
}
