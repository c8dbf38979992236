//! A stand-in for the API: a stateful server on a loopback port, in its own thread. `start` returns
//! a handle, which reads the server's state, changes its settings while it runs and adds faults.
//! Dropping the handle stops the server. This module does not know the program under test.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "test code that several crates include, each using a part of it; a panic fails the test"
)]

mod connection;
mod cookies;
mod endpoints;
mod faults;
mod record;
mod reply;
mod settings;
mod sign_in;
mod state;
mod tls;
mod tokens;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

#[allow(
    unused_imports,
    reason = "each crate that includes this uses a part of it"
)]
pub use self::{
    faults::{BodyKind, Delay, Fault, FaultKind, RetryAfter},
    record::RecordedRequest,
    settings::{
        CookieExpiry, Dialect, Envelope, NextLink, RotationPolicy, Settings, SignupTokens, TlsKind,
    },
    state::{Account, RefreshTokenError, Tokens},
};

use self::record::Record;
use self::state::State;
use self::tls::Tls;

/// The state that the server's tasks and the handle share.
struct Shared {
    settings: Settings,
    state: State,
    record: Record,
}

/// A running server.
pub struct Handle {
    shared: Arc<Mutex<Shared>>,
    address: SocketAddr,
    ca_pem: Option<String>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Serves on this listener until the handle is dropped.
pub fn start(listener: TcpListener, settings: Settings) -> Handle {
    let address = listener.local_addr().unwrap();
    let tls = settings.tls.map(Tls::new);
    let ca_pem = tls.as_ref().map(|tls| tls.ca_pem.clone());
    let shared = Arc::new(Mutex::new(Shared {
        settings,
        state: State::default(),
        record: Record::default(),
    }));
    let (stop, stopped) = oneshot::channel();
    let for_thread = Arc::clone(&shared);
    let thread = std::thread::Builder::new().name("sandbox".to_owned());
    let thread = thread.spawn(move || serve(listener, tls, for_thread, stopped));
    Handle {
        shared,
        address,
        ca_pem,
        stop: Some(stop),
        thread: Some(thread.unwrap()),
    }
}

/// Serves on a free port of `127.0.0.1`.
pub fn start_on_loopback(settings: Settings) -> Handle {
    start(
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
        settings,
    )
}

/// Serves on a free port of `::1`.
pub fn start_on_loopback_v6(settings: Settings) -> Handle {
    start(
        TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap(),
        settings,
    )
}

fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    shared: Arc<Mutex<Shared>>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let accepting = async {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    // The process probably has no free file descriptor until connections close.
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    continue;
                };
                let _ = stream.set_nodelay(true);
                let shared = Arc::clone(&shared);
                let acceptor = tls.as_ref().map(|tls| tls.acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => connection::serve(stream, shared).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                connection::serve(stream, shared).await;
                            }
                        }
                    }
                });
            }
        };
        tokio::select! {
            () = accepting => {}
            _ = stopped => {}
        }
    });
}

impl Handle {
    /// Returns the base URL of the endpoints, such as `http://127.0.0.1:4711/api/v1`.
    pub fn base_url(&self) -> String {
        format!("{}{}", self.origin(), endpoints::BASE)
    }

    /// Returns the scheme, host and port.
    pub fn origin(&self) -> String {
        let scheme = if self.ca_pem.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the certificate of the CA, if the server uses https.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Changes the settings for the next requests.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.shared().settings);
    }

    /// Returns the current settings, with the faults that have not been used yet.
    pub fn settings(&self) -> Settings {
        self.shared().settings.clone()
    }

    /// Adds a fault, which is used after the other faults.
    pub fn fault(&self, fault: Fault) {
        self.shared().settings.faults.push(fault);
    }

    /// Adds an account and returns its id.
    pub fn add_account(&self, account: Account) -> u64 {
        self.shared().state.add_account(account)
    }

    /// Returns an account by its address or user name.
    pub fn account(&self, login: &str) -> Option<Account> {
        self.shared().state.account_by_login(login).cloned()
    }

    /// Mails a code to an address.
    pub fn mail_code(&self, email: &str) {
        self.shared().state.mail_code(email);
    }

    /// Returns the last code that was mailed to an address, unless it has been used.
    pub fn mailed_code(&self, email: &str) -> Option<String> {
        let email = email.to_lowercase();
        self.shared().state.codes.get(&email).cloned()
    }

    /// Returns a receiver of each address and code that is mailed from now on. A later call
    /// replaces the receiver.
    pub fn mailbox(&self) -> Receiver<(String, String)> {
        let (sender, receiver) = channel();
        self.shared().state.mailbox = Some(sender);
        receiver
    }

    /// Starts a session without a request, like a login of another program.
    pub fn begin_session(&self, login: &str) -> Tokens {
        let shared = &mut *self.shared();
        let id = shared.state.account_by_login(login).unwrap().id;
        shared.state.begin_session(id, &shared.settings)
    }

    /// Exchanges a refresh token without a request, like another holder of the token.
    pub fn exchange(&self, token: &str) -> Result<Tokens, RefreshTokenError> {
        let shared = &mut *self.shared();
        shared.state.exchange(token, &shared.settings)
    }

    /// Whether an exchange of this token would succeed.
    pub fn refresh_works(&self, token: &str) -> bool {
        let shared = &*self.shared();
        shared
            .state
            .find_valid_refresh(token, &shared.settings)
            .is_ok()
    }

    /// Whether the server accepts an access token now.
    pub fn access_works(&self, token: &str) -> bool {
        let shared = &*self.shared();
        let now = shared.settings.now();
        shared.state.issuer.read_access(token, now).is_ok()
    }

    /// Whether the account has a valid refresh token.
    pub fn session_alive(&self, login: &str) -> bool {
        self.current_refresh(login).is_some()
    }

    /// Returns the last refresh token of the account that is valid.
    pub fn current_refresh(&self, login: &str) -> Option<String> {
        let shared = &*self.shared();
        let id = shared.state.account_by_login(login)?.id;
        let token = shared.state.current_refresh(id, &shared.settings)?;
        Some(token.to_owned())
    }

    /// Ends every session.
    pub fn revoke_all(&self) {
        self.shared().state.revoke_all();
    }

    /// Returns the number of successful exchanges, including those whose response was lost.
    pub fn exchanges(&self) -> u64 {
        self.shared().state.exchanges
    }

    /// Returns the number of checked codes, valid or not.
    pub fn code_checks(&self) -> u64 {
        self.shared().state.code_checks
    }

    /// Returns all requests since the start or the last `clear_requests`, in order of arrival.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.shared().record.requests.clone()
    }

    /// Returns the number of requests to an endpoint, such as `/auth/signin/`.
    pub fn count(&self, path: &str) -> usize {
        let shared = self.shared();
        let requests = shared.record.requests.iter();
        requests.filter(|request| request.path == path).count()
    }

    pub fn clear_requests(&self) {
        self.shared().record.requests.clear();
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
