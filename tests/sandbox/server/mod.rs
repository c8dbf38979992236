//! A stand-in for the API: a stateful server on a loopback port, in its own thread. `start` returns
//! a handle, which reads the server's state, changes its settings while it runs and adds faults.
//! Dropping the handle stops the server. The program under test is not known here.

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
struct World {
    settings: Settings,
    state: State,
    record: Record,
}

/// A running server.
pub struct Handle {
    world: Arc<Mutex<World>>,
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
    let world = Arc::new(Mutex::new(World {
        settings,
        state: State::default(),
        record: Record::default(),
    }));
    let (stop, stopped) = oneshot::channel();
    let shared = Arc::clone(&world);
    let thread = std::thread::Builder::new().name("sandbox".to_owned());
    let thread = thread.spawn(move || serve(listener, tls, shared, stopped));
    Handle {
        world,
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
    world: Arc<Mutex<World>>,
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
                    // Probably out of file descriptors, until connections close.
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    continue;
                };
                let _ = stream.set_nodelay(true);
                let world = Arc::clone(&world);
                let acceptor = tls.as_ref().map(|tls| tls.acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => connection::serve(stream, world).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                connection::serve(stream, world).await;
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
    /// The URL that the endpoints' paths are appended to, such as `http://127.0.0.1:4711/api/v1`.
    pub fn base_url(&self) -> String {
        format!("{}{}", self.origin(), endpoints::BASE)
    }

    /// Scheme, host and port.
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

    /// The certificate of the CA, if the server speaks https.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Changes the settings, from the next request on.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.world().settings);
    }

    /// The current settings, with the faults that are left.
    pub fn settings(&self) -> Settings {
        self.world().settings.clone()
    }

    /// Adds a fault after those that are left.
    pub fn fault(&self, fault: Fault) {
        self.world().settings.faults.push(fault);
    }

    /// Adds an account and returns its id.
    pub fn add_account(&self, account: Account) -> u64 {
        self.world().state.add_account(account)
    }

    /// Returns an account by its address or user name.
    pub fn account(&self, login: &str) -> Option<Account> {
        self.world().state.by_login(login).cloned()
    }

    /// Mails a code to an address.
    pub fn mail_code(&self, email: &str) {
        self.world().state.mail_code(email);
    }

    /// Returns the code that was last mailed to an address, if it is unused.
    pub fn mailed_code(&self, email: &str) -> Option<String> {
        let email = email.to_lowercase();
        self.world().state.codes.get(&email).cloned()
    }

    /// Receives each address and code that is mailed from now on. Replaces an earlier mailbox.
    pub fn mailbox(&self) -> Receiver<(String, String)> {
        let (sender, receiver) = channel();
        self.world().state.mailbox = Some(sender);
        receiver
    }

    /// Starts a session without a request, as a login elsewhere would.
    pub fn begin_session(&self, login: &str) -> Tokens {
        let world = &mut *self.world();
        let id = world.state.by_login(login).unwrap().id;
        world.state.begin(id, &world.settings)
    }

    /// Exchanges a refresh token without a request, as another holder of it would.
    pub fn exchange(&self, token: &str) -> Result<Tokens, RefreshTokenError> {
        let world = &mut *self.world();
        world.state.exchange(token, &world.settings)
    }

    /// Whether an exchange of this token would succeed.
    pub fn refresh_works(&self, token: &str) -> bool {
        let world = &*self.world();
        world.state.check(token, &world.settings).is_ok()
    }

    /// Whether an access token is accepted now.
    pub fn access_works(&self, token: &str) -> bool {
        let world = &*self.world();
        let now = world.settings.now();
        world.state.mint.read_access(token, now).is_ok()
    }

    /// Whether any refresh token of the account works.
    pub fn session_alive(&self, login: &str) -> bool {
        self.current_refresh(login).is_some()
    }

    /// The account's refresh token that was issued last and works.
    pub fn current_refresh(&self, login: &str) -> Option<String> {
        let world = &*self.world();
        let id = world.state.by_login(login)?.id;
        let token = world.state.current_refresh(id, &world.settings)?;
        Some(token.to_owned())
    }

    /// Ends every session.
    pub fn revoke_all(&self) {
        self.world().state.revoke_all();
    }

    /// The number of successful exchanges, whether or not their responses arrived.
    pub fn exchanges(&self) -> u64 {
        self.world().state.exchanges
    }

    /// The number of codes that were checked, right or wrong.
    pub fn code_checks(&self) -> u64 {
        self.world().state.code_checks
    }

    /// All requests since the start or the last `clear_requests`, in order of arrival.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.world().record.requests.clone()
    }

    /// The number of requests to an endpoint, such as `/auth/signin/`.
    pub fn count(&self, path: &str) -> usize {
        let world = self.world();
        let to = world
            .record
            .requests
            .iter()
            .filter(|request| request.path == path);
        to.count()
    }

    pub fn clear_requests(&self) {
        self.world().record.requests.clear();
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
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
