//! What kind of run a seed makes between servers.

use crate::rng::Rng;
use couplet::core::settings;
use couplet::engine::Settings;
use couplet::limits::Limits;
use couplet::stream::s2s::Policy;
use couplet::stream::{PeerCert, PeerNames, Trust};

/// How servers prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// All by certificates, and so all streams have stream management.
    Certificates,
    /// All by dialback.
    Dialback,
    /// The first by a certificate, the others by dialback.
    Mixed,
}

pub struct Plan {
    /// Of the servers.
    pub domains: Vec<String>,
    /// Bare addresses, and on which server each is.
    pub accounts: Vec<(String, usize)>,
    /// The world acts this many times and comes to rest each time.
    pub parts: u32,
    /// Steps of one part.
    pub steps: u32,
    /// A step takes less than this.
    pub step_ms: usize,
    /// How often a tick ends with its first input.
    pub tick_percent: usize,
    pub disk_weight: u32,
    pub commit_fails_percent: usize,
    /// Clients vanish.
    pub drop_permille: usize,
    pub crash_permille: usize,
    /// Connections between servers are cut.
    pub cut_permille: usize,
    /// How often a side does not learn of that.
    pub silent_percent: usize,
    pub dial_fails_percent: usize,
    /// How soon an attempt to connect has an end.
    pub dial_weight: u32,
    pub block_weight: u32,
    pub subscription_weight: u32,
    pub liar_weight: u32,
    /// How often a client enables stream management.
    pub managed_percent: usize,
    pub proof: Proof,
    pub bidi: bool,
    /// Nothing is refused: all servers and clients have stream management, no disk fails, no attempt to connect fails
    /// for good, and what waits may wait for long. What is counted arrives.
    pub strict: bool,
    pub limits: Limits,
}

/// Whose domain nobody else proves.
pub const LIAR: &str = "liar.example";

const NAMES: [&str; 2] = ["ann", "bob"];

impl Plan {
    pub fn new(rng: &mut Rng) -> Self {
        let domains: Vec<String> =
            ["a.example", "b.example", "c.example"][..2 + rng.below(2)].iter().map(|d| d.to_string()).collect();
        let mut accounts = Vec::new();
        for (server, domain) in domains.iter().enumerate() {
            for name in &NAMES[..1 + rng.below(2)] {
                accounts.push((format!("{name}@{domain}"), server));
            }
        }
        let strict = rng.percent(40);
        let proof = rng.pick(&[Proof::Certificates, Proof::Certificates, Proof::Dialback, Proof::Mixed]);
        let proof = if strict { Proof::Certificates } else { proof };
        let mut limits = Limits { offline_messages_max: 10_000, ..Limits::default() };
        limits.sm_spool_delay_ms = rng.pick(&[100, 1000]);
        if rng.percent(40) {
            limits.out_window_bytes = 600;
        }
        if rng.percent(30) {
            limits.s2s_idle_timeout_s = 5;
        }
        match strict {
            true => limits.s2s_queue_timeout_s = 86_400,
            false => {
                limits.s2s_queue_max = rng.pick(&[1000, 1000, 3]);
                limits.s2s_queue_timeout_s = rng.pick(&[300, 20]);
            }
        }
        let managed_percent = rng.pick(&[0, 50, 100]);
        let commit_fails_percent = rng.pick(&[0, 0, 10]);
        let block_weight = rng.pick(&[0, 4]);
        Self {
            domains,
            accounts,
            parts: 2,
            steps: rng.pick(&[200, 300, 500]),
            step_ms: rng.pick(&[2, 40, 400, 2000]),
            tick_percent: rng.pick(&[20, 60, 100]),
            disk_weight: rng.pick(&[1, 4, 20]),
            commit_fails_percent: if strict { 0 } else { commit_fails_percent },
            drop_permille: rng.pick(&[0, 5, 15]),
            crash_permille: rng.pick(&[0, 0, 3, 8]),
            cut_permille: rng.pick(&[0, 10, 30]),
            silent_percent: rng.pick(&[0, 30, 100]),
            dial_fails_percent: rng.pick(&[0, 20, 50]),
            dial_weight: rng.pick(&[1, 2, 8]),
            block_weight: if strict { 0 } else { block_weight },
            subscription_weight: rng.pick(&[0, 10, 30]),
            liar_weight: rng.pick(&[0, 2]),
            managed_percent: if strict { 100 } else { managed_percent },
            proof,
            bidi: rng.percent(70),
            strict,
            limits,
        }
    }

    /// Those of one server.
    pub fn settings(&self, server: usize) -> Settings {
        let dialback = self.proof != Proof::Certificates;
        let s2s = Policy { secure_auth: !dialback, dialback, bidi: self.bidi, ..Policy::default() };
        let core = settings::Settings {
            hosts: vec![self.domains[server].clone()],
            iterations: 8,
            limits: self.limits.clone(),
            s2s,
            ..settings::Settings::default()
        };
        Settings { core, ..Settings::default() }
    }

    /// What a server shows of itself.
    pub fn certificate(&self, server: usize) -> PeerCert {
        let valid = self.proof == Proof::Certificates || self.proof == Proof::Mixed && server == 0;
        certificate(&self.domains[server], valid)
    }
}

pub fn certificate(domain: &str, valid: bool) -> PeerCert {
    let trust = if valid { Trust::Valid } else { Trust::SelfSigned };
    PeerCert { trust, names: PeerNames { dns: vec![domain.to_string()], ..PeerNames::default() } }
}
