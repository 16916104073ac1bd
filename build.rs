//! Tells optimised builds the commit that they are made from.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        name_commit();
    }
}

/// `TRAJFORMER_COMMIT`, where the sources are a repository and git is there. Not for builds that are made again and again while
/// somebody works: each commit would build the library anew.
fn name_commit() {
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git")
            .args(arguments)
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
    };
    let (Some(log), Some(commit)) = (
        git(&["rev-parse", "--git-path", "logs/HEAD"]),
        git(&["rev-parse", "--short=12", "HEAD"]),
    ) else {
        return;
    };
    println!("cargo:rerun-if-changed={log}");
    println!("cargo:rustc-env=TRAJFORMER_COMMIT={commit}");
}
