//! What kind of run a seed makes: each has its own mix of load, misfortune and limits.

use super::client::Client;
use super::rng::Rng;
use super::world::HOST;
use couplet::core::settings;
use couplet::engine::Settings;
use couplet::limits::Limits;

pub struct Plan {
    /// Bare addresses.
    pub accounts: Vec<String>,
    /// Clients of each account.
    resources: Vec<Vec<&'static str>>,
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
    pub stall_permille: usize,
    pub drop_permille: usize,
    pub crash_permille: usize,
    /// How often clients block each other, in a thousand actions.
    pub block_weight: u32,
    /// How often clients do something in rooms.
    pub room_weight: u32,
    /// How often clients do something with nodes.
    pub node_weight: u32,
    /// How often clients say that nobody looks at them, or that somebody does.
    pub idle_weight: u32,
    /// How often a message is long.
    pub long_percent: usize,
    /// How often a client enables stream management.
    pub managed_percent: usize,
    /// One write fails.
    pub refuses: bool,
    pub limits: Limits,
}

const NAMES: [&str; 5] = ["ann", "bob", "cyd", "dan", "eve"];

impl Plan {
    pub fn new(rng: &mut Rng) -> Self {
        let accounts: Vec<String> = NAMES[..2 + rng.below(3)].iter().map(|n| format!("{n}@{HOST}")).collect();
        let resources = accounts.iter().map(|_| resources(rng)).collect();
        let mut limits = Limits::default();
        if rng.percent(50) {
            limits.out_window_bytes = 600;
            limits.out_bytes_max = rng.pick(&[8_000, 30_000, limits.out_bytes_max]);
        }
        if rng.percent(30) {
            limits.offline_messages_max = 3;
        }
        let managed_percent = rng.pick(&[0, 60, 100]);
        if managed_percent > 0 {
            limits.sm_resume_timeout_s = rng.pick(&[600, 600, 5]);
            limits.sm_unacked_max = rng.pick(&[500, 20]);
            limits.sm_parked_max = rng.pick(&[5, 1]);
            limits.sm_spool_delay_ms = rng.pick(&[100, 1000]);
        }
        let drops: &[usize] = if managed_percent > 0 { &[3, 10, 30] } else { &[0, 3, 10] };
        Self {
            managed_percent,
            refuses: false,
            accounts,
            resources,
            parts: 3,
            steps: rng.pick(&[150, 250, 400]),
            step_ms: rng.pick(&[2, 40, 400]),
            tick_percent: rng.pick(&[20, 60, 100]),
            disk_weight: rng.pick(&[1, 4, 20]),
            commit_fails_percent: rng.pick(&[0, 0, 5, 15]),
            stall_permille: rng.pick(&[0, 10, 30]),
            drop_permille: rng.pick(drops),
            crash_permille: rng.pick(&[0, 0, 2, 5]),
            block_weight: rng.pick(&[0, 0, 4, 10]),
            room_weight: rng.pick(&[0, 0, 40, 100]),
            node_weight: rng.pick(&[0, 0, 30, 80]),
            idle_weight: rng.pick(&[0, 6, 20]),
            long_percent: rng.pick(&[5, 5, 30]),
            limits,
        }
    }

    /// A run for loops over one: little chance, everybody with stream management.
    pub fn script(rng: &mut Rng, refuses: bool) -> Self {
        let plan = Self::new(rng);
        let limits = Limits { out_window_bytes: 2_000, sm_resume_timeout_s: 20, ..Limits::default() };
        Self {
            parts: 3,
            steps: 250,
            step_ms: 40,
            tick_percent: 100,
            disk_weight: 20,
            commit_fails_percent: 0,
            stall_permille: 0,
            drop_permille: 25,
            crash_permille: 0,
            block_weight: 0,
            managed_percent: 100,
            refuses,
            limits,
            ..plan
        }
    }

    /// Whether the disk may refuse something.
    pub fn may_refuse(&self) -> bool {
        self.refuses || self.commit_fails_percent > 0
    }

    pub fn settings(&self) -> Settings {
        let mut core = settings::Settings {
            hosts: vec![HOST.to_string()],
            iterations: 8,
            limits: self.limits.clone(),
            ..settings::Settings::default()
        };
        // There are none in this world: what is for them comes back at once.
        core.s2s.enabled = false;
        let settings = Settings { core, ..Settings::default() };
        // The world comes to rest weeks later, and then looks for what must be there.
        #[cfg(feature = "mam")]
        let settings = {
            let mut settings = settings;
            settings.modules.mam.keep = couplet::setting::Seconds(0);
            settings
        };
        settings
    }

    pub fn clients(&self) -> Vec<Client> {
        let pairs = self.accounts.iter().zip(&self.resources);
        pairs.flat_map(|(account, resources)| resources.iter().map(|r| Client::new(account, r))).collect()
    }

    /// Bytes of the longest thing that the server ever says at once in this world, and more than a client ever does.
    pub fn stanza_bytes_max(&self) -> usize {
        8_000
    }

    /// What the server may hold for one client: its queue, what the socket has not taken and the stanza that was the
    /// last to go there, and one that is coming in, in a buffer that grows by doubling.
    pub fn held_max_bytes(&self) -> usize {
        (self.limits.out_bytes_max + self.limits.out_window_bytes) as usize + 3 * self.stanza_bytes_max()
    }
}

/// Most clients have a resource of their own; now and then two want the same.
fn resources(rng: &mut Rng) -> Vec<&'static str> {
    let mut resources = ["desk", "phone", "web"][..1 + rng.below(3)].to_vec();
    if rng.percent(10) {
        resources.push("desk");
    }
    resources
}
