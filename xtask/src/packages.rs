//! Debian's packages, downloaded by apt and unpacked below `target`, but not installed.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::shell::{answer, bounded, run};

/// Seconds for one question to apt or one download.
const DOWNLOAD_LIMIT_SECS: u32 = 300;

/// Directories that are links into /usr on most machines, while packages may have them as directories.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// Unpacks what `download` gets to `root`, which is there whole, and as `finish` leaves it, or not at all. `work` is a
/// directory beside it for this alone, `names` are the packages', for people.
pub(crate) fn unpack(
    work: &Path,
    root: &Path,
    names: &str,
    download: impl Fn(&Path) -> Result<()>,
    finish: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    ensure!(
        answer("apt-get", &["--version"]).is_some(),
        "this is no Debian (no apt-get), and these packages are Debian's"
    );
    let packages = work.join("packages");
    fs::create_dir_all(packages.join("partial"))
        .with_context(|| format!("making {}", packages.display()))?;
    println!(
        "fetching {names} into {}; nothing is installed",
        root.display()
    );
    let outcome = fetch(&packages, download).and_then(|()| {
        let new = work.join("unpacked");
        lay_out(&new)?;
        for entry in fs::read_dir(&packages)? {
            let package = entry?.path();
            if package.extension().is_some_and(|suffix| suffix == "deb") {
                extract(&package, &new)?;
            }
        }
        finish(&new)?;
        fs::rename(&new, root).with_context(|| format!("making {}", root.display()))
    });
    // Without the packages the rest is of no use to anybody, and of those there is no more need.
    let removed = fs::remove_dir_all(work);
    outcome?;
    removed.with_context(|| format!("removing {}", work.display()))
}

/// Makes an empty root whose directories are links into /usr where the machine's are.
fn lay_out(root: &Path) -> Result<()> {
    fs::create_dir_all(root)?;
    for name in MERGED {
        if let Ok(target) = fs::read_link(Path::new("/").join(name))
            && target.is_relative()
        {
            fs::create_dir_all(root.join(&target))?;
            std::os::unix::fs::symlink(&target, root.join(name))?;
        }
    }
    Ok(())
}

/// Unpacks a package into a root, whose links stay links, which `dpkg-deb --extract` replaces.
fn extract(package: &Path, root: &Path) -> Result<()> {
    let mut archive = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .spawn()
        .context("starting dpkg-deb")?;
    let files = archive.stdout.take().context("dpkg-deb has an output")?;
    let unpacked = Command::new("tar")
        .args(["-x", "--keep-directory-symlink", "--warning=no-timestamp"])
        .arg("-C")
        .arg(root)
        .stdin(files)
        .status()
        .context("starting tar")?;
    let read = archive.wait()?;
    ensure!(
        unpacked.success() && read.success(),
        "unpacking {}: dpkg-deb: {read}, tar: {unpacked}",
        package.display()
    );
    Ok(())
}

/// Downloads the packages. Where the lists of packages are missing or out of date, they are renewed first.
fn fetch(to: &Path, download: impl Fn(&Path) -> Result<()>) -> Result<()> {
    if let Err(error) = download(to) {
        println!("{error:#}; renewing the lists of packages");
        run(&mut bounded(
            DOWNLOAD_LIMIT_SECS,
            "apt-get",
            &["-q", "update"],
        ))
        .context("the packages cannot be had, and their lists not be renewed")?;
        download(to)?;
    }
    Ok(())
}

/// Downloads packages.
pub(crate) fn download(packages: &[&str], to: &Path) -> Result<()> {
    run(apt_get().arg("download").args(packages).current_dir(to))
}

/// Downloads packages with all that they depend on and that is not installed here.
pub(crate) fn download_with_needs(packages: &[&str], to: &Path) -> Result<()> {
    run(apt_get()
        .args([
            "install",
            "-y",
            "--no-install-recommends",
            "--download-only",
        ])
        .arg("-o")
        .arg(format!("Dir::Cache::archives={}", to.display()))
        .arg("-o")
        .arg("Debug::NoLocking=1")
        .args(packages))
}

/// apt-get, ended where an archive does not answer.
pub(crate) fn apt_get() -> Command {
    let mut command = bounded(DOWNLOAD_LIMIT_SECS, "apt-get", &["-q"]);
    // apt's own user may not write below `target`.
    command.args(["-o", "APT::Sandbox::User=root"]);
    command
}

/// Runs a command; an exit code other than 0 is an error.
pub(crate) fn quietly(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}
