//! The connection to the session bus: making it, and calling over it.
//!
//! The calling thread drives the connection with its own runtime, since a second
//! thread costs more than a round trip. This module does not know the calls.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
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

pub(super) const BUS_NAME: &str = "org.freedesktop.secrets";

pub(super) type Result<T> = std::result::Result<T, SecretServiceError>;

/// A connection to the session bus, each call on which is bounded in time.
#[derive(Clone)]
pub(super) struct Bus {
    pub(super) connection: Connection,
    pub(super) timeout: Duration,
}

/// Makes the runtime and the connection that it drives.
pub(super) fn connect(timeout: Duration) -> Result<(Runtime, Bus)> {
    let runtime = runtime().map_err(|e| SecretServiceError::Other(e.to_string()))?;
    let connection = runtime.block_on(with_timeout(timeout, async {
        let address = Address::session()?;
        let builder = match socket(&address) {
            Some(path) => Builder::unix_stream(stream(&path).await?),
            None => {
                // zbus connects in a thread, and panics if it cannot start one.
                std::thread::Builder::new().spawn(|| {})?;
                Builder::address(address)?
            }
        };
        builder.method_timeout(timeout).build().await
    }));
    match connection {
        Some(Ok(connection)) => Ok((
            runtime,
            Bus {
                connection,
                timeout,
            },
        )),
        failed => {
            // One of its threads may be blocked in connect(2).
            runtime.shutdown_background();
            Err(match failed {
                None => SecretServiceError::stalled(timeout),
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

/// Returns the path of a bus's socket. For an abstract name it begins with NUL, as
/// tokio expects.
fn socket(address: &Address) -> Option<PathBuf> {
    let Transport::Unix(unix) = address.transport() else {
        return None;
    };
    match unix.path() {
        UnixSocket::File(path) => Some(path.clone()),
        #[cfg(target_os = "linux")]
        UnixSocket::Abstract(name) => {
            let mut path = std::ffi::OsString::from("\0");
            path.push(name);
            Some(path.into())
        }
        _ => None,
    }
}

/// Connects to the socket without a thread, as zbus would: a thread costs more than
/// the rest of the handshake.
async fn stream(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            // The backlog of the bus is full.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            result => return result,
        }
    }
}

impl Bus {
    /// Calls a method of the Secret Service.
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
        self.call_at(BUS_NAME, path, interface, method, body).await
    }

    /// Calls a method of any service.
    pub(super) async fn call_at<B, A>(
        &self,
        name: &str,
        path: &str,
        interface: &str,
        method: &str,
        body: &B,
    ) -> Result<A>
    where
        B: Serialize + DynamicType,
        A: DeserializeOwned + zvariant::Type,
    {
        let reply = self.message(name, path, interface, method, body).await?;
        self.map_bus_err(reply.body().deserialize())
    }

    /// Calls a method and returns the reply undecoded.
    pub(super) async fn message<B>(
        &self,
        name: &str,
        path: &str,
        interface: &str,
        method: &str,
        body: &B,
    ) -> Result<Message>
    where
        B: Serialize + DynamicType,
    {
        let reply = self
            .connection
            .call_method(Some(name), path, Some(interface), method, body)
            .await;
        self.map_bus_err(reply)
    }

    pub(super) fn map_bus_err<T>(&self, result: zbus::Result<T>) -> Result<T> {
        result.map_err(|e| SecretServiceError::from_bus(e, self.timeout))
    }
}

/// Returns the output of `work`, or `None` after `limit`.
pub(super) async fn with_timeout<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, work).await.ok()
}
