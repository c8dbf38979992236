//! Connects to the D-Bus session bus, and calls methods with a timeout.
//!
//! The connection is driven by a runtime on the calling thread, since starting a
//! second thread costs more time than a round trip.

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use zbus::address::Transport;
use zbus::address::transport::UnixSocket;
use zbus::connection::Builder;
use zbus::zvariant::{DynamicType, Type};
use zbus::{Address, Connection, Message};

use super::SecretServiceError;

/// The bus name of the Secret Service.
pub(super) const SECRET_SERVICE: &str = "org.freedesktop.secrets";

pub(super) type Result<T> = std::result::Result<T, SecretServiceError>;

/// A connection to the session bus. Each call has a timeout.
#[derive(Clone)]
pub(super) struct Bus {
    pub(super) connection: Connection,
    pub(super) timeout: Duration,
}

/// Connects to the session bus. `addresses` is the value of `DBUS_SESSION_BUS_ADDRESS`.
/// Returns the connection, and the runtime that drives the connection.
pub(super) fn connect(addresses: Option<&str>, timeout: Duration) -> Result<(Runtime, Bus)> {
    let runtime = new_runtime().map_err(|e| SecretServiceError::Other(e.to_string()))?;
    let result = runtime
        .block_on(async { tokio::time::timeout(timeout, open_any(addresses, timeout)).await });
    let error = match result {
        Ok(Ok(connection)) => {
            let bus = Bus {
                connection,
                timeout,
            };
            return Ok((runtime, bus));
        }
        Ok(Err(error)) => error,
        Err(_) => SecretServiceError::timed_out(timeout),
    };
    // Do not wait for the threads of the runtime: a thread may be blocked in connect(2).
    runtime.shutdown_background();
    Err(error)
}

/// Tries the addresses in order until a connection succeeds, as the D-Bus specification
/// requires. zbus accepts only a single address.
async fn open_any(addresses: Option<&str>, method_timeout: Duration) -> Result<Connection> {
    let Some(addresses) = addresses else {
        let default_address = Address::session();
        let connection = open(default_address, method_timeout).await;
        return connection.map_err(|_| SecretServiceError::Absent);
    };
    let mut failures = Vec::new();
    for address in addresses.split(';').filter(|address| !address.is_empty()) {
        match open(Address::from_str(address), method_timeout).await {
            Ok(connection) => return Ok(connection),
            Err(error) => failures.push(format!("{address}: {error}")),
        }
    }
    Err(SecretServiceError::NoBusAtAddresses(failures.join("; ")))
}

async fn open(
    address: zbus::Result<Address>,
    method_timeout: Duration,
) -> zbus::Result<Connection> {
    let address = address?;
    let builder = match unix_socket_path(&address) {
        Some(path) => Builder::unix_stream(connect_unix(&path).await?),
        None => {
            // zbus starts a thread to connect, and panics if that fails. Return an error
            // instead if no thread can be started.
            std::thread::Builder::new().spawn(|| {})?;
            Builder::address(address)?
        }
    };
    builder.method_timeout(method_timeout).build().await
}

fn new_runtime() -> io::Result<Runtime> {
    // tokio panics if it cannot open its file descriptors. Return an error instead if
    // too few are left.
    drop((io::pipe()?, io::pipe()?, io::pipe()?));
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
}

/// Returns the path of the bus's socket. An abstract name is returned with a leading
/// NUL, as tokio expects.
fn unix_socket_path(address: &Address) -> Option<PathBuf> {
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

/// Connects on this thread. zbus would start a thread, which costs more time than the rest
/// of the handshake.
async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            // The bus has too many pending connections.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            result => return result,
        }
    }
}

impl Bus {
    /// Calls a method of the Secret Service.
    pub(super) async fn call<T: DeserializeOwned + Type>(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        body: &(impl Serialize + DynamicType),
    ) -> Result<T> {
        self.call_to(SECRET_SERVICE, path, interface, method, body)
            .await
    }

    /// Calls a method of the service that owns the bus name `destination`.
    pub(super) async fn call_to<T: DeserializeOwned + Type>(
        &self,
        destination: &str,
        path: &str,
        interface: &str,
        method: &str,
        body: &(impl Serialize + DynamicType),
    ) -> Result<T> {
        let reply = self
            .call_raw(destination, path, interface, method, body)
            .await?;
        self.map_bus_err(reply.body().deserialize())
    }

    /// Calls a method and returns the reply without deserializing its body.
    pub(super) async fn call_raw(
        &self,
        destination: &str,
        path: &str,
        interface: &str,
        method: &str,
        body: &(impl Serialize + DynamicType),
    ) -> Result<Message> {
        let reply = self
            .connection
            .call_method(Some(destination), path, Some(interface), method, body)
            .await;
        self.map_bus_err(reply)
    }

    pub(super) fn map_bus_err<T>(&self, result: zbus::Result<T>) -> Result<T> {
        result.map_err(|e| SecretServiceError::from_bus(e, self.timeout))
    }
}
