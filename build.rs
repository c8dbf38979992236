//! Puts the unwinder into the program where the compiler's own is at hand:
//! without libgcc_s.so there is an object fewer to load at each start, which is
//! an eighth of a small program's run. Elsewhere it is linked as usual.
#![expect(
    clippy::disallowed_methods,
    reason = "cargo speaks to a build script by variables"
)]

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|is| is == value);
    let native = std::env::var("HOST").is_ok() && std::env::var("HOST") == std::env::var("TARGET");
    let is_static =
        std::env::var("CARGO_CFG_TARGET_FEATURE").is_ok_and(|all| all.contains("crt-static"));
    if !native
        || is_static
        || !is("CARGO_CFG_TARGET_OS", "linux")
        || !is("CARGO_CFG_TARGET_ENV", "gnu")
    {
        return;
    }
    let Ok(output) = Command::new("cc")
        .arg("-print-file-name=libgcc_eh.a")
        .output()
    else {
        return;
    };
    let answer = String::from_utf8_lossy(&output.stdout);
    let archive = Path::new(answer.trim());
    if let Some(dir) = archive.parent()
        && archive.is_absolute()
        && archive.is_file()
    {
        println!("cargo::rustc-link-search=native={}", dir.display());
        println!("cargo::rustc-link-lib=static:-bundle=gcc_eh");
    }
}
