//! Runs the stand-in for the API as a program: `cargo run --example sandbox -- --port 8080`. Prints
//! the base URL, then each verification code that the server mails, until the program is killed.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "an example's output is plain lines"
)]

use std::error::Error;
use std::net::{IpAddr, TcpListener};
use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;

mod server;

/// Run a stand-in for the Rememberizer account API, to try things and for tests
#[derive(Parser)]
#[command(name = "sandbox")]
struct Flags {
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
    /// Port to listen on (0: any free port)
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Create a verified account; repeatable
    #[arg(long = "account", value_name = "EMAIL:PASSWORD[:NAME]")]
    accounts: Vec<AccountArg>,
    /// Write the certificate of the CA to this file, as PEM
    #[arg(long, value_name = "FILE", requires = "tls")]
    ca_file: Option<PathBuf>,
    #[command(flatten)]
    settings: server::Settings,
}

#[derive(Clone)]
struct AccountArg(server::Account);

impl FromStr for AccountArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, ':');
        let (Some(email), Some(password)) = (parts.next(), parts.next()) else {
            return Err("must be EMAIL:PASSWORD or EMAIL:PASSWORD:NAME");
        };
        let account = server::Account::new(email, password);
        Ok(AccountArg(match parts.next() {
            Some(name) => account.name(name),
            None => account,
        }))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::parse();
    let listener = TcpListener::bind((flags.host, flags.port))?;
    let handle = server::start(listener, flags.settings);
    for AccountArg(account) in flags.accounts {
        handle.add_account(account);
    }
    if let (Some(path), Some(pem)) = (flags.ca_file, handle.ca_pem()) {
        std::fs::write(path, pem)?;
    }
    let mailbox = handle.mailbox();
    println!("listening on {}", handle.base_url());
    for (email, code) in mailbox {
        println!("code for {email}: {code}");
    }
    Ok(())
}
