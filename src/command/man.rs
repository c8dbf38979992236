//! `man`: writes the manual pages. Hidden from the help, since only packagers need it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::Cli;
use crate::context::Context;
use crate::error::Error;
use crate::exit::Failure;
use crate::host::Host;
use crate::model::Timestamp;

/// The variable that sets the date of a reproducible build (reproducible-builds.org), in
/// seconds since 1970.
const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Write the manual pages into a directory, one per command
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory, which must exist
    #[arg(value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    dir: PathBuf,
}

pub(super) fn run(args: &Args, context: &Context<'_>) -> Result<(), Error> {
    let mut root = Cli::command();
    root.build();
    write_pages(&root, &args.dir, &date(context.host)?)
        .with_context(|| format!("cannot write the manual pages into {}", args.dir.display()))?;
    Ok(())
}

/// Returns the date of the pages as `YYYY-MM-DD`.
fn date(host: &Host) -> Result<String, Failure> {
    let now = match (host.read_variable)(SOURCE_DATE_EPOCH) {
        None => (host.now)(),
        Some(seconds) => seconds
            .to_str()
            .and_then(|text| text.parse().ok())
            .map(Timestamp::from_secs)
            .ok_or_else(|| {
                Failure::usage(format!(
                    "{SOURCE_DATE_EPOCH} must be a number of seconds since 1970"
                ))
            })?,
    };
    Ok(now.to_string().chars().take("YYYY-MM-DD".len()).collect())
}

/// Writes the page of a command and the pages of its subcommands.
fn write_pages(command: &clap::Command, dir: &Path, date: &str) -> std::io::Result<()> {
    for subcommand in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        write_pages(subcommand, dir, date)?;
    }
    let name = command.get_display_name().unwrap_or(command.get_name());
    let version = command.get_version().unwrap_or_default();
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .date(date)
        .source(format!("rememberizer {version}"))
        .manual("Rememberizer");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    synopsis_section(command).to_writer(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|c| !c.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(text) = command.get_after_help() {
        after_help_sections(&text.to_string()).to_writer(&mut page)?;
    }
    // Before a list of values, clap_mangen writes an empty line between two `.br` requests.
    // mandoc warns about that, so replace them by `.sp`.
    let page = String::from_utf8_lossy(&page).replace("\n.br\n\n.br\n", "\n.sp\n");
    File::create(dir.join(man.get_filename()))?.write_all(page.as_bytes())
}

/// Returns the usage line of the help as a section. The synopsis of clap_mangen lists all
/// flags, and lacks their values.
fn synopsis_section(command: &clap::Command) -> Roff {
    let usage = command.clone().render_usage().to_string();
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([roman(usage.trim_start_matches("Usage: "))]);
    roff
}

/// Converts the paragraphs at the end of the help to sections. `Examples:` and a line break
/// start preformatted lines; `Exit codes: ` starts plain text.
fn after_help_sections(text: &str) -> Roff {
    let mut roff = Roff::new();
    for paragraph in text.split("\n\n") {
        let Some((title, rest)) = paragraph.split_once(':') else {
            continue;
        };
        let title = match title {
            "Exit codes" => "EXIT STATUS".to_owned(),
            other => other.to_uppercase(),
        };
        roff.control("SH", [&*title]);
        if let Some(lines) = rest.strip_prefix('\n') {
            roff.control("nf", []);
            lines.lines().for_each(|line| {
                roff.text([roman(line.trim_start())]);
            });
            roff.control("fi", []);
        } else {
            roff.text([roman(rest.trim_start())]);
        }
    }
    roff
}
