//! Links libgcc's unwinder statically, if the C compiler has it. Otherwise each start of the
//! program loads `libgcc_s.so`, which takes an eighth of the time of a short run.
#![expect(
    clippy::disallowed_methods,
    reason = "cargo passes its settings to a build script in variables"
)]

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    // When cross-compiling, `cc` is the compiler of another system.
    let is_native = variable("HOST") == variable("TARGET");
    let is_static = variable("CARGO_CFG_TARGET_FEATURE").contains("crt-static");
    let is_linux_gnu =
        variable("CARGO_CFG_TARGET_OS") == "linux" && variable("CARGO_CFG_TARGET_ENV") == "gnu";
    if !is_native || is_static || !is_linux_gnu {
        return;
    }
    let Ok(output) = Command::new("cc")
        .arg("-print-file-name=libgcc_eh.a")
        .output()
    else {
        return;
    };
    // cc prints an absolute path if it has the file, otherwise the bare file name.
    let path = String::from_utf8_lossy(&output.stdout);
    let library = Path::new(path.trim());
    if let Some(dir) = library.parent()
        && library.is_absolute()
        && library.is_file()
    {
        println!("cargo::rustc-link-search=native={}", dir.display());
        println!("cargo::rustc-link-lib=static:-bundle=gcc_eh");
    }
}
