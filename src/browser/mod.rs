//! A page in the person's own browser that solves a captcha and hands the
//! response back, once.
//!
//! It is served to this machine alone, under a path that nobody can guess, and
//! runs no script but the captcha's own: the widget puts its response into a
//! form, and a form needs no script to be sent. It knows nothing of what the
//! response is for.

mod http;
mod page;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::time::{Duration, Instant};

use crate::model::Secret;
use http::{Request, Response};

/// How long a response is waited for; one lasts no longer itself.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How long a connection may take to send its request.
const REQUEST: Duration = Duration::from_secs(5);

/// A page that waits to be opened.
pub struct CaptchaPage {
    listener: TcpListener,
    address: SocketAddr,
    site: Arc<Site>,
}

struct Site {
    key: String,
    path: String,
    hosts: [String; 2],
}

impl CaptchaPage {
    /// Binds a page for `site_key` on loopback.
    pub fn bind(site_key: &str) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let path = random
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>();
        let port = address.port();
        Ok(Self {
            listener,
            address,
            site: Arc::new(Site {
                key: site_key.to_owned(),
                path: format!("/{path}"),
                hosts: [format!("127.0.0.1:{port}"), format!("localhost:{port}")],
            }),
        })
    }

    /// Where the page is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}{}", self.address, self.site.path)
    }

    /// Opens the page in the default browser; whether there was one to be asked.
    /// Variables whose names begin with `private` stay out of its environment.
    #[must_use]
    pub fn open(&self, private: &[&str]) -> bool {
        open::commands(self.url())
            .into_iter()
            .any(|mut command: Command| {
                for name in private {
                    command.env_remove(name);
                }
                command
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .is_ok()
            })
    }

    /// Serves the page until a response comes, at most `patience`; `None` where none came.
    #[must_use]
    pub fn wait(self, patience: Duration) -> Option<Secret> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let (listener, site) = (self.listener, self.site);
        // A browser opens connections ahead of need: each has a thread, so that
        // an idle one holds nobody up.
        std::thread::Builder::new()
            .name("captcha".to_owned())
            .spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (site, sender) = (Arc::clone(&site), sender.clone());
                    let serve = move || drop(serve(&site, stream, &sender));
                    drop(std::thread::Builder::new().spawn(serve));
                }
            })
            .ok()?;
        receiver.recv_timeout(patience).ok()
    }
}

fn serve(site: &Site, mut stream: TcpStream, sender: &SyncSender<Secret>) -> io::Result<()> {
    stream.set_read_timeout(Some(REQUEST))?;
    stream.set_write_timeout(Some(REQUEST))?;
    let response = match Request::read(&mut stream, Instant::now() + REQUEST)? {
        None => Response::plain(400, "not a request that can be read"),
        Some(request) => answer(site, &request, sender),
    };
    response.write(&mut stream)
}

fn answer(site: &Site, request: &Request, sender: &SyncSender<Secret>) -> Response {
    // A name that was made to point here must not read or send anything.
    let Some(host) = site.hosts.iter().find(|host| request.host() == Some(host)) else {
        return Response::plain(403, "this is not the address of the page");
    };
    if !same(request.path(), &site.path) {
        return Response::plain(404, "there is nothing here");
    }
    match request.method() {
        "GET" => Response::page(200, &page::widget(&site.key, "")),
        "POST" => {
            if request.header("origin") != Some(&format!("http://{host}")) {
                return Response::plain(403, "the form was sent from another page");
            }
            match request.field("g-recaptcha-response") {
                None => Response::page(
                    200,
                    &page::widget(
                        &site.key,
                        "There is no response yet: solve the captcha first.",
                    ),
                ),
                // The channel holds one response, and one is all that is taken.
                Some(response) => match sender.try_send(Secret::new(response)) {
                    Ok(()) => Response::page(200, page::DONE),
                    Err(_) => Response::plain(410, "a response has been handed over already"),
                },
            }
        }
        _ => Response::plain(405, "GET or POST"),
    }
}

/// Whether two texts are the same, in a time that tells nothing of where they differ.
fn same(a: &str, b: &str) -> bool {
    use subtle::ConstantTimeEq;
    a.as_bytes().ct_eq(b.as_bytes()).into()
}
