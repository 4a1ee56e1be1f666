//! The operator's program that writes and removes records of DNS.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use async_io::Timer;
use rustix::process::{Pid, Signal, kill_process_group};

/// How often one looks whether it has ended. There is no thread to wait for it.
const LOOK: Duration = Duration::from_millis(100);

/// The program, and how long it may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// It is started as it is, without a shell.
    pub program: PathBuf,
    /// It is killed after that many seconds.
    pub timeout_s: u32,
    /// Where it may write files of its own, as `TMPDIR`.
    pub folder: PathBuf,
}

/// Killed when it is dropped, with what it has started.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended and was waited for may have left its number to another.
        if let Ok(None) = self.0.try_wait() {
            let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
            let _ = self.0.wait();
        }
    }
}

impl Hook {
    /// Runs `PROGRAM add|del NAME VALUE` and waits for its end. What it says goes to our standard error.
    ///
    /// # Errors
    /// When it cannot be started, takes too long or does not return 0: one phrase.
    pub async fn run(&self, verb: &str, name: &str, value: &str) -> Result<(), String> {
        let shown = self.program.display();
        let mut running = self.start(verb, name, value).map_err(|error| {
            let sandbox = match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    ": make it executable; in the sandbox (process.sandbox) it must be where it was when the server \
                     started"
                }
                _ => "",
            };
            format!("{shown} does not start ({error}){sandbox}")
        })?;
        let looks = u64::from(self.timeout_s) * 1000 / (LOOK.as_millis() as u64);
        for _ in 0..=looks {
            match running.0.try_wait() {
                Ok(Some(status)) => return ended(&shown, status),
                Ok(None) => Timer::after(LOOK).await,
                Err(error) => return Err(format!("{shown}: {error}")),
            };
        }
        Err(format!("{shown} takes longer than {} s (acme.hook_timeout)", self.timeout_s))
    }

    fn start(&self, verb: &str, name: &str, value: &str) -> io::Result<Running> {
        let mut command = Command::new(&self.program);
        // What the server is configured with, and who supervises it, is not its business.
        let ours = |name: &str| name.starts_with("COUPLET_") || name == "NOTIFY_SOCKET" || name == "WATCHDOG_USEC";
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(ours)) {
            command.env_remove(name);
        }
        command.args([verb, name, value]).env("TMPDIR", &self.folder).current_dir(Path::new("/")).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        Ok(Running(command.spawn()?))
    }
}

fn ended(program: &dyn std::fmt::Display, status: ExitStatus) -> Result<(), String> {
    if status.success() { Ok(()) } else { Err(format!("{program} ends with {status}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("couplet-hook-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn hook(folder: &Path, script: &str, timeout_s: u32) -> Hook {
        let program = folder.join("hook");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        Hook { program, timeout_s, folder: folder.to_owned() }
    }

    #[test]
    fn it_gets_its_arguments_as_they_are() {
        let folder = folder("arguments");
        let hook = hook(&folder, r#"printf '%s|' "$#" "$@" "$TMPDIR" "$PWD" > "$TMPDIR/said""#, 10);
        async_io::block_on(hook.run("add", "_acme-challenge.a.example", "$(id) 'x'")).unwrap();
        let said = fs::read_to_string(folder.join("said")).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(said, format!("3|add|_acme-challenge.a.example|$(id) 'x'|{}|/|", folder.display()));
    }

    #[test]
    fn what_goes_wrong_is_told() {
        let folder = folder("wrong");
        let run = |hook: &Hook| async_io::block_on(hook.run("add", "n", "v")).unwrap_err();
        assert!(run(&hook(&folder, "exit 3", 10)).ends_with("/hook ends with exit status: 3"));
        assert!(run(&hook(&folder, "sleep 60", 0)).ends_with("takes longer than 0 s (acme.hook_timeout)"));
        let missing = Hook { program: folder.join("missing"), timeout_s: 1, folder: folder.clone() };
        assert!(run(&missing).contains("/missing does not start (No such file"));
        fs::write(folder.join("plain"), "x").unwrap();
        let plain = Hook { program: folder.join("plain"), timeout_s: 1, folder: folder.clone() };
        assert!(run(&plain).contains("make it executable"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
