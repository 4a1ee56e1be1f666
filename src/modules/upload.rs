//! HTTP file upload (XEP-0363): slots for files. The bytes of the files are the shell's: it takes what comes with the
//! proof of a slot ([`core::slots`](crate::core::slots)).
//!
//! The service is at the host itself, so that no other name and certificate is needed. What an account was granted
//! counts for a day, whether it was used or not.

use super::{IqRoute, Module, Scope, TableInfo, Xep};
use crate::clock::datetime;
use crate::core::disco::{Disco, Form, Identity};
use crate::core::settings::Settings;
use crate::core::slots::{SLOT_S, Slot, tidy_name, tidy_type};
use crate::core::{Answer, Core, Request};
use crate::jid::Jid;
use crate::setting::{Bytes, Seconds, section};
use crate::stanza::{Condition, StanzaError};
use crate::storage::Table;
use crate::xml::{Builder, Element, ns};

section! {
    /// Files that users send each other (XEP-0363), kept in the folder "uploads" of the data folder. Backups leave them
    /// out.
    pub struct Config in "modules.upload" {
        /// The largest file.
        pub size_max: Bytes = Bytes(10_485_760) => |size| not_zero(*size),
        /// What one account may upload in 24 hours.
        pub daily_quota: Bytes = Bytes(104_857_600) => |size| not_zero(*size),
        /// What all files may take; 0 is as much as the disk has, and a full disk takes no messages either.
        pub total_quota: Bytes = Bytes(1_000_000_000),
        /// How long files are kept.
        pub expires: Seconds = Seconds(604_800) => |time| minute(*time),
    }
}

fn not_zero(size: Bytes) -> Result<(), String> {
    if size.0 > 0 { Ok(()) } else { Err("0 takes no file; write modules.disabled = [\"upload\"] for that".to_string()) }
}

fn minute(time: Seconds) -> Result<(), String> {
    if time.0 >= 60 { Ok(()) } else { Err("this is too short; write \"1 min\" or more".to_string()) }
}

const DAY_MS: u64 = 86_400_000;

crate::record! {
    /// A slot that was granted.
    pub struct Grant {
        /// Bytes of the file.
        pub size: u64,
    }
}

/// Owner: the account. Sub key: when it was granted, in milliseconds since 1970, and 8 bytes of the slot's id.
pub struct Grants;
impl Table for Grants {
    const ID: u8 = 80;
    const NAME: &'static str = "upload-grants";
    type Value = Grant;
}

/// The module.
pub struct Upload {
    config: Config,
}

impl Module for Upload {
    const XEPS: &'static [Xep] = &[Xep { number: 363, version: "1.2.0" }];
    const TABLES: &'static [TableInfo] = &[TableInfo { id: Grants::ID, name: Grants::NAME }];
    const IQ: &'static [IqRoute] = &[(Scope::Host, ns::UPLOAD, "request")];
    type Config = Config;

    fn new(config: Config) -> Self {
        Self { config }
    }

    /// Where no file could be brought to, nothing is offered.
    fn disco(&self, settings: &Settings, host: &str, disco: &mut Disco) {
        if settings.url(host).is_some() {
            let name = "HTTP File Upload".to_string();
            disco.host.identities.push(Identity { category: "store", kind: "file", name });
            disco.host.features.extend([ns::UPLOAD, ns::UPLOAD_FOR_MESSAGES]);
            let size_max = vec![self.config.size_max.0.to_string()];
            disco.host.forms.push(Form { form_type: ns::UPLOAD, fields: vec![("max-file-size", size_max)] });
        }
    }

    fn iq(&mut self, core: &mut Core, request: &Request<'_>) -> Result<Answer, StanzaError> {
        let Some(url) = core.settings.url(request.owner.domain()) else { return Ok(Answer::NotMine) };
        let account = match (&request.stanza.from, request.session) {
            (Some(from), Some(_)) if from.domain() == request.owner.domain() => from.bare(),
            _ => return Err(Condition::NotAllowed.because("Files are for users of this host.")),
        };
        if request.is_set {
            return Err(Condition::BadRequest.into());
        }
        // Purposes that promise how long a file stays, or how short, are not announced.
        let promises = |name| request.child.child(ns::UPLOAD_PURPOSE, name).is_some();
        if ["profile", "ephemeral", "permanent"].into_iter().any(promises) {
            return Err(Condition::FeatureNotImplemented.because("There is no such purpose here."));
        }
        let name = request.child.attr("filename").and_then(tidy_name);
        let name = name.ok_or_else(|| Condition::BadRequest.because("The file has no name."))?;
        let size = request.child.attr("size").and_then(|size| size.parse::<u64>().ok()).filter(|size| *size > 0);
        let size = size.ok_or_else(|| Condition::BadRequest.because("The file has no size."))?;
        if size > u64::from(self.config.size_max.0) {
            return Err(too_large(self.config.size_max.0));
        }
        let total_max = u64::from(self.config.total_quota.0);
        if total_max > 0 && core.web.files_bytes.saturating_add(size) > total_max {
            return Err(Condition::ResourceConstraint.because("All files together have no more room."));
        }
        self.keep_quota(core, account.bare_str(), size)?;
        let id = core.token();
        let (now_ms, media_type) = (core.wall_ms(), request.child.attr("content-type").map(tidy_type));
        let (media_type, owner) = (media_type.unwrap_or_default(), account.bare_str().to_owned());
        let slot = Slot { id, name, size, media_type, owner, expires_s: now_ms / 1000 + SLOT_S };
        let mut sub = now_ms.to_be_bytes().to_vec();
        sub.extend(slot.id.bytes().take(8));
        core.view.put::<Grants>(account.bare_str(), &sub, &Grant { size });
        let target = format!("{}{}", url.trim_end_matches('/'), slot.path());
        let mut b = Builder::new(ns::UPLOAD, "slot");
        b.open(ns::UPLOAD, "put").attr("url", &target);
        b.open(ns::UPLOAD, "header").attr("name", "Authorization");
        b.text(&format!("Bearer {}", slot.token(&core.web.slot_key)));
        b.close();
        b.close();
        b.open(ns::UPLOAD, "get").attr("url", &target).close();
        Ok(Answer::Result(b.finish()))
    }

    /// Its files go with it.
    fn account_deleted(&mut self, core: &mut Core, _: &Jid) -> Result<(), StanzaError> {
        core.web.sweeps = true;
        Ok(())
    }
}

impl Upload {
    /// Refuses what is more than an account may upload in a day, and forgets what was granted before that.
    fn keep_quota(&self, core: &mut Core, account: &str, size: u64) -> Result<(), StanzaError> {
        core.may_write()?;
        let quota = u64::from(self.config.daily_quota.0);
        if size > quota {
            return Err(Condition::NotAcceptable.because("The file is larger than what you may upload in a day."));
        }
        let slots_max = core.settings.limits.upload_slots_max as usize;
        let now_ms = core.wall_ms();
        // A row that cannot be read as ours is from another time.
        let granted_ms = |sub: &[u8]| sub.first_chunk().map_or(0, |time| u64::from_be_bytes(*time));
        let rows = core.view.list::<Grants>(account, slots_max + 1)?;
        let mut recent: Vec<(u64, u64)> = Vec::new();
        for row in rows {
            let at_ms = granted_ms(&row.0);
            // The clock may have been wrong before.
            if at_ms + DAY_MS <= now_ms || at_ms > now_ms + DAY_MS {
                core.view.delete::<Grants>(account, &row.0);
            } else {
                recent.push((at_ms, row.1.size));
            }
        }
        let mut used = recent.iter().map(|(_, size)| size).sum::<u64>();
        let mut left = recent.len();
        let mut free_at_ms = None;
        for (at_ms, size_then) in &recent {
            if used + size <= quota && left < slots_max {
                break;
            }
            (used, left) = (used - size_then, left - 1);
            free_at_ms = Some(at_ms + DAY_MS);
        }
        match free_at_ms {
            None => Ok(()),
            Some(at_ms) => Err(later(at_ms)),
        }
    }
}

/// Section 5.
fn too_large(size_max: u32) -> StanzaError {
    let mut b = Builder::new(ns::UPLOAD, "file-too-large");
    b.leaf(ns::UPLOAD, "max-file-size", &size_max.to_string());
    let error = Condition::NotAcceptable.because("The file is too large.");
    StanzaError { application: Some(Box::new(b.finish())), ..error }
}

/// Section 5: not before that.
fn later(at_ms: u64) -> StanzaError {
    let mut b = Builder::new(ns::UPLOAD, "retry");
    // A second more, as the stamp has none of the milliseconds.
    b.attr("stamp", &datetime(i64::try_from(at_ms).unwrap_or(i64::MAX).saturating_add(1000)));
    let retry: Element = b.finish();
    let error = Condition::ResourceConstraint.because("That is more than you may upload in a day.");
    StanzaError { application: Some(Box::new(retry)), ..error }
}
