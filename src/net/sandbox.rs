//! The sandbox: what of the file system the process can still reach, by Landlock of the Linux kernel (5.13 and later).
//!
//! A rule holds for a file or folder as it was when the rule was made. Files that other programs replace (certificates
//! that are renewed, `resolv.conf`) are new ones then, so the rules are for the folders that they lie in, and for those
//! that symbolic links lead to.
//!
//! The network is left free: ports are bound by now, and other servers are anywhere.

use std::fs;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope, path_beneath_rules,
};

use super::authorities::Authorities;
use super::dns;

/// What a process may still do where.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The data folder: everything but running programs and making devices.
    pub data: PathBuf,
    /// The folder of certificates, in which some may be made.
    pub certificates: PathBuf,
    /// Files that are read again at a reload: the configuration, values that lie in files of their own.
    pub files: Vec<PathBuf>,
    /// Authorities of other servers.
    pub authorities: Option<PathBuf>,
    /// The log file, to be appended to, and made when it was rotated away.
    pub log: Option<PathBuf>,
    /// The admin socket, to be made, and removed at the end.
    pub socket: Option<PathBuf>,
    /// A program of the operator's, that is run.
    pub program: Option<PathBuf>,
}

/// The rights of Landlock that are asked for. A kernel that knows fewer keeps those.
const KNOWN: ABI = ABI::V6;

/// Shuts the process in, for good.
///
/// # Errors
/// Why it is not: one phrase.
pub fn enter(places: &Places) -> Result<(), String> {
    match restrict(places) {
        Ok(RulesetStatus::NotEnforced) => Err("this kernel has no Landlock".to_string()),
        Ok(_) => Ok(()),
        // Its own words cost more room than they are worth.
        Err(_) => Err("the kernel refuses it".to_string()),
    }
}

/// Whether this kernel can.
pub fn is_available() -> bool {
    let asked = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .and_then(Ruleset::create);
    asked.is_ok()
}

fn restrict(places: &Places) -> Result<RulesetStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let devices = AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::MakeFifo | AccessFs::IoctlDev;
    let own: BitFlags<AccessFs> = AccessFs::from_all(KNOWN) & !AccessFs::Execute & !devices;
    let append = AccessFs::WriteFile | AccessFs::MakeReg;
    let folder = |path: &Option<PathBuf>| path.as_deref().map(folder_of);
    let programs = places.program.as_deref().map(programs).unwrap_or_default();
    let null = places.program.as_deref().map(|_| "/dev/null");
    let restricted = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?
        .add_rules(path_beneath_rules([&places.data, &places.certificates], own))?
        .add_rules(path_beneath_rules(readable(places), read))?
        .add_rules(path_beneath_rules(programs, read | AccessFs::Execute))?
        .add_rules(path_beneath_rules(null, AccessFs::ReadFile | AccessFs::WriteFile))?
        .add_rules(path_beneath_rules(folder(&places.log), append))?
        .add_rules(path_beneath_rules(folder(&places.socket), AccessFs::MakeSock | AccessFs::RemoveFile))?
        .restrict_self()?;
    Ok(restricted.ruleset)
}

/// Where programs are, and what they are made of; and where one of the operator's is, with what lies beside it.
const PROGRAMS: [&str; 7] = ["/bin", "/sbin", "/lib", "/lib64", "/usr", "/opt", "/nix/store"];

fn programs(of: &Path) -> Vec<PathBuf> {
    let own = [Some(folder_of(of)), behind(of)].into_iter().flatten();
    PROGRAMS.iter().map(PathBuf::from).chain(own).filter(|path| path.exists()).collect()
}

/// What is only read.
fn readable(places: &Places) -> Vec<PathBuf> {
    // All of /etc, because `resolv.conf` and `hosts` are replaced there at any time; what is secret in it is not for
    // the user that the process is. And of /proc, as its files are made anew when the system is short of memory.
    let mut all = vec![PathBuf::from("/etc"), PathBuf::from("/proc")];
    let authorities = Authorities::new(places.authorities.clone());
    let files = places.files.iter().map(PathBuf::as_path).chain(authorities.path().ok());
    for file in files.chain(dns::FILES.map(Path::new)) {
        all.push(folder_of(file));
        all.extend(behind(file));
    }
    // HOST/fullchain.pem may be a link as well as HOST itself.
    for entry in entries(&places.certificates) {
        all.extend(behind(&entry));
        all.extend(entries(&entry).iter().filter_map(|file| behind(file)));
    }
    all.sort();
    all.dedup();
    all
}

/// The folder of what a link leads to in the end, wherever that is. That of certbot's archive is for all domains: those
/// that are added later will be links to it, too.
fn behind(path: &Path) -> Option<PathBuf> {
    let file = fs::canonicalize(path).ok()?;
    let folder = folder_of(&file);
    let archive = folder.parent().filter(|above| above.ends_with("archive")).map(Path::to_path_buf);
    Some(archive.unwrap_or(folder))
}

/// The folder that a file lies in, so that what replaces the file is meant, too; the file alone where that would be
/// the root of everything.
fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if folder.as_os_str().is_empty() => PathBuf::from("."),
        Some(folder) if folder != Path::new("/") => folder.to_path_buf(),
        _ => file.to_path_buf(),
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn folders_of_files_and_of_what_links_lead_to() {
        assert_eq!(folder_of(Path::new("couplet.toml")), Path::new("."));
        assert_eq!(folder_of(Path::new("/etc/couplet/couplet.toml")), Path::new("/etc/couplet"));
        assert_eq!(folder_of(Path::new("/couplet.toml")), Path::new("/couplet.toml"));
        let root = std::env::temp_dir().join(format!("couplet-sandbox-{}", std::process::id()));
        let root = fs::create_dir_all(&root).and_then(|()| fs::canonicalize(&root)).unwrap();
        for folder in ["certs", "elsewhere", "le/live/a.example", "le/archive/a.example"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for file in ["elsewhere/b.pem", "le/archive/a.example/fullchain1.pem"] {
            fs::write(root.join(file), "").unwrap();
        }
        symlink("../../archive/a.example/fullchain1.pem", root.join("le/live/a.example/fullchain.pem")).unwrap();
        symlink(root.join("le/live/a.example"), root.join("certs/a.example")).unwrap();
        symlink("../elsewhere/b.pem", root.join("certs/b.example.pem")).unwrap();
        let found = readable(&Places { certificates: root.join("certs"), ..Places::default() });
        fs::remove_dir_all(&root).unwrap();
        for folder in ["elsewhere", "le/archive"] {
            assert!(found.contains(&root.join(folder)), "{folder}: {found:?}");
        }
        assert!(!found.contains(&root) && !found.contains(&PathBuf::from("/")), "{found:?}");
    }
}
