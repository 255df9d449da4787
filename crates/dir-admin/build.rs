//! Tells the program which platform it was built for.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = std::env::var("TARGET").unwrap_or_default();
    println!("cargo:rustc-env=DIR_ADMIN_TARGET={target}");
}
